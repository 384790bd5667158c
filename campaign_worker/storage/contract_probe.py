"""Does a contract fit this database? Asks Postgres about each statement; changes and keeps nothing.

Every look is a transaction that only reads and is rolled back.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from campaign_worker.contract.model import FollowUpJob
from campaign_worker.contract.reading import Source
from campaign_worker.contract.statements import Form, Spec, fits, given
from campaign_worker.errors import ContractError, ContractProblem
from campaign_worker.storage.database import Database
from campaign_worker.storage.faults import Fault, fault_of

_CASE = "names with capitals, as Prisma and TypeORM write them, need double quotes"


@dataclass(frozen=True, slots=True)
class Look:
    """What Postgres said about one statement. `plan` is EXPLAIN's, line by line.

    `scans` are tables that it can only read whole: no index serves its keys.
    """

    place: str
    problems: tuple[ContractProblem, ...]
    plan: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    scans: tuple[str, ...] = ()


class ContractProbe:
    """Asks about the statements of one contract. Methods raise DatabaseAway."""

    def __init__(self, database: Database, source: Source) -> None:
        self._database = database
        self._source = source

    async def verify(self) -> None:
        """Raise ContractError with every fault of every statement."""
        problems = [one for look in await self.looks() for one in look.problems]
        if problems:
            raise ContractError(tuple(problems))

    async def looks(self) -> list[Look]:
        """Look at each statement."""
        return [await self._look(spec) for spec, _ in given(self._source.contract)]

    async def sample(self, place: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Run a statement of the contract and take it back; its rows. Raises ContractError."""
        statement = self._source.statements[place]
        async with self._reading() as connection:
            try:
                rows = await connection.fetch(
                    statement.sql, *(values.get(name) for name in statement.names)
                )
            except asyncpg.PostgresError as error:
                raise self._refused(self._spec(place), error) from error
        return [dict(row) for row in rows]

    async def untold(self) -> Sequence[Mapping[str, Any]]:
        """Give how many endings the app's tables have refused, by what they said."""
        return await self._database.fetch("contract_refusals")

    async def _look(self, spec: Spec) -> Look:
        statement = self._source.statements[spec.place]
        async with self._reading() as connection:
            try:
                prepared = await connection.prepare(statement.sql, name="")
                columns = prepared.get_attributes()
                plan = await self._explain(connection, statement.sql, len(statement.names))
                await connection.execute("SET LOCAL enable_seqscan = off")
                forced = await self._explain(connection, statement.sql, len(statement.names))
            except asyncpg.PostgresError as error:
                return Look(spec.place, self._refused(spec, error).problems)
        return Look(
            spec.place,
            tuple(self._columns(spec, columns)),
            plan,
            tuple(column.name for column in columns),
            tuple(_scanned(forced)),
        )

    async def _explain(
        self, connection: PoolConnectionProxy, sql: str, parameters: int
    ) -> tuple[str, ...]:
        # Nothing is executed; what may not be read or written is refused all the same.
        rows = await connection.fetch(f"EXPLAIN (COSTS OFF) {sql}", *[None] * parameters)
        return tuple(row[0] for row in rows)

    def _columns(
        self, spec: Spec, columns: Sequence[asyncpg.Attribute]
    ) -> Iterator[ContractProblem]:
        types = {column.name: column.type for column in columns}
        names = ", ".join(types) or "none"
        if len(types) < len(columns):
            yield self._problem(spec, f"gives two columns of one name: {names}")
        if columns and not spec.required:
            yield self._problem(spec, "returns rows, and nobody reads them", "leave RETURNING out")
        for name in spec.required:
            if name not in types:
                close = difflib.get_close_matches(name, types, n=1)
                mend = f"write {_quoted(close[0])} AS {name}" if close else f"add one AS {name}"
                yield self._problem(spec, f"gives no column {name}, but {names}", mend)
        if spec.place == "load.steps" and types and "id" not in types and self._by_step_id():
            yield self._problem(spec, "gives no column id, and a job has a step_id", "add it AS id")
        if spec.needs_one_of and types and not types.keys() & set(spec.needs_one_of):
            yield self._problem(spec, f"gives none of {', '.join(spec.needs_one_of)}")
        for name, form in {**spec.required, **spec.optional}.items():
            if name in types:
                yield from self._type(spec, name, form, types[name])
        yield from self._unread(spec, types)

    def _unread(self, spec: Spec, types: Iterable[str]) -> Iterator[ContractProblem]:
        known = {**spec.required, **spec.optional}
        for name in types:
            if name not in known and known and not spec.free:
                close = difflib.get_close_matches(name, known, n=1)
                mend = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                yield self._problem(spec, f"gives a column {name}, which nobody reads", mend)

    def _by_step_id(self) -> bool:
        jobs = self._source.contract.jobs.values()
        return any(isinstance(job, FollowUpJob) and job.step_id is not None for job in jobs)

    def _type(self, spec: Spec, name: str, form: Form, given: Any) -> Iterator[ContractProblem]:
        ids = self._source.contract.ids
        if fits(form, given.name, given.schema, ids):
            return
        found = _WORDS.get(given.name, given.name)
        match form:
            case Form.CAMPAIGN_ID | Form.RECIPIENT_ID:
                which = "campaign" if form is Form.CAMPAIGN_ID else "recipient"
                said = getattr(ids, which).value
                problem = f"column {name} is {found}, and [ids] {which} says {said}"
                yield self._problem(spec, problem, f'say {which} = "{found}" there, or cast it')
            case _:
                yield self._problem(spec, f"column {name} is {found}, not {form.value}", "cast it")

    def _problem(self, spec: Spec, problem: str, mend: str = "") -> ContractProblem:
        return self._source.problem_in(spec, None, problem, mend)

    def _refused(self, spec: Spec, error: asyncpg.PostgresError) -> ContractError:
        if fault_of(error) is Fault.AWAY:
            raise error
        return ContractError((problem_of(self._source, spec, error),))

    def _spec(self, place: str) -> Spec:
        return next(spec for spec, _ in given(self._source.contract) if spec.place == place)

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[PoolConnectionProxy]:
        """Give a transaction of which nothing stays."""
        async with self._database.transaction() as connection:
            look = connection.transaction()
            await look.start()
            try:
                yield connection
            finally:
                if not connection.is_closed():
                    await look.rollback()


def problem_of(source: Source, spec: Spec, error: asyncpg.PostgresError) -> ContractProblem:
    """Describe what Postgres said about a statement, with the line that it points at."""
    position = getattr(error, "position", None)
    return source.problem_in(
        spec,
        int(position) if position else None,
        str(getattr(error, "message", None) or error),
        _mend(source, error),
    )


def _mend(source: Source, error: asyncpg.PostgresError) -> str:
    hint = getattr(error, "hint", None)
    match error:
        case asyncpg.UndefinedTableError():
            return hint or _CASE
        case asyncpg.UndefinedColumnError():
            return str(hint) if hint else _CASE
        case asyncpg.UndefinedFunctionError() | asyncpg.DatatypeMismatchError():
            ids = source.contract.ids
            said = f"[ids] says campaign {ids.campaign.value}, recipient {ids.recipient.value}"
            return f"{said}; what differs needs a cast"
        case asyncpg.InsufficientPrivilegeError():
            return "GRANT it to the role of DATABASE_URL"
        case _:
            return str(hint or "")


_WORDS = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "float4": "real",
    "float8": "double precision",
}


def _quoted(name: str) -> str:
    return name if name.islower() else f'"{name}"'


def _scanned(plan: Sequence[str]) -> Iterator[str]:
    for line in plan:
        _, found, rest = line.partition("Seq Scan on ")
        if found:
            yield rest.split()[0].strip('"')

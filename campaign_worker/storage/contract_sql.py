"""Runs the statements that a contract brings. What is wrong with them is told as the contract's.

Faults of single values and lost races pass unchanged, as those of our own statements do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from campaign_worker.contract.reading import Source
from campaign_worker.contract.statements import given
from campaign_worker.errors import ContractBroken
from campaign_worker.storage.contract_probe import problem_of
from campaign_worker.storage.faults import Fault, fault_of

_RAISED = "P0"
"""The class of what PL/pgSQL raises (errcodes-appendix)."""

_BROKEN = (Fault.OURS, Fault.CREDENTIALS)
"""42501 is a login that is refused elsewhere: here it is a GRANT that is gone."""


class ContractSql:
    """The statements of one contract, by their place in the file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._specs = {spec.place: spec for spec, _ in given(source.contract)}

    def __contains__(self, place: str) -> bool:
        return place in self._specs

    async def fetch(
        self, connection: PoolConnectionProxy, place: str, values: Mapping[str, Any]
    ) -> Sequence[Any]:
        """Run one; its rows. Raises ContractBroken when it does not fit the tables."""
        statement = self._source.statements[place]
        try:
            return await connection.fetch(
                statement.sql, *(values[name] for name in statement.names)
            )
        except asyncpg.PostgresError as error:
            if place.startswith("write.") and refuses_a_row(error):
                raise
            if fault_of(error) in _BROKEN:
                problem = problem_of(self._source, self._specs[place], error)
                text = f"{problem.problem} ({problem.file}:{problem.line})"
                raise ContractBroken(place, text) from error
            raise

    async def speak_now(self, connection: PoolConnectionProxy) -> None:
        """Have deferred constraints and triggers of the app say what they would at the commit.

        There, what they refuse takes our own rows back with it. Raises as `fetch` does.
        """
        try:
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except asyncpg.PostgresError as error:
            if fault_of(error) in _BROKEN and not refuses_a_row(error):
                raise ContractBroken("write", said(error)) from error
            raise


def refuses_a_row(error: Exception) -> bool:
    """Whether a table refuses what is written to it: a value, or a trigger that raises or dawdles.

    What takes too long is refused as well: nobody knows that it would ever end.
    """
    state = getattr(error, "sqlstate", None) or ""
    # A trigger may raise with a code of its own.
    raised = state.startswith(_RAISED) or isinstance(error, asyncpg.UnknownPostgresError)
    slow = isinstance(error, asyncpg.QueryCanceledError)
    return raised or slow or fault_of(error) is Fault.DATA


def said(error: Exception) -> str:
    """Give the message alone: the detail of a constraint quotes the row."""
    return str(getattr(error, "message", None) or type(error).__name__)

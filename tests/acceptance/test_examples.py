"""The apps of examples/ are served by their contracts alone; `make examples` is the long form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from campaign_worker.embedded.smtp_script import Moment, by_recipient
from tests.acceptance.site import Site
from tests.examples.example import EXAMPLES, Example
from tests.examples.office import Office
from tests.examples.rounds import alone, beside, there_and_back
from tests.support import eventually

pytestmark = pytest.mark.node

MAILS = 80
LATENCY_MS = 20
ALL = list(EXAMPLES.values())
PRISMA = EXAMPLES["prisma-camelcase"]
LIST = EXAMPLES["recipient-list"]


def of(*examples: Example) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("office", examples, indirect=True, ids=lambda one: one.name)


@pytest.fixture
async def office(
    request: pytest.FixtureRequest, node_bullmq: Any, site: Site
) -> AsyncIterator[Office]:
    """Return the app that the test names, with its packages and its tables."""
    opened = Office(site, request.param)
    await opened.open()
    yield opened
    await opened.close()


@of(*ALL)
async def test_an_unchanged_app_is_served_through_a_rolling_deploy(office: Office) -> None:
    office.site.sink.latency_ms = LATENCY_MS
    books = await alone(office, MAILS)
    assert books.flawless, books
    assert (books.accepted, books.by_us) == (MAILS, MAILS)


@of(PRISMA)
async def test_the_app_s_worker_and_ours_share_its_mails(office: Office) -> None:
    office.site.sink.latency_ms = LATENCY_MS
    books = await beside(office, MAILS)
    assert books.flawless, books
    assert books.by_node > 0
    assert books.by_us > 0


@of(PRISMA, LIST)
async def test_a_campaign_goes_over_and_back_while_it_is_sent(office: Office) -> None:
    office.site.sink.latency_ms = LATENCY_MS
    books = await there_and_back(office, MAILS)
    assert books.flawless, books
    assert books.by_node >= MAILS // 4
    assert books.by_us > 0


@of(*ALL)
async def test_its_contract_is_ready_and_shadow_foretells_what_becomes_of_each_mail(
    office: Office,
) -> None:
    mails = 4 * office.example.steps
    campaign = await office.start(mails)
    await office.forget((await office.people(campaign))[:1])
    checked = await office.site.cli("contract", "check")
    assert (checked.code, checked.stdout.splitlines()[-1]) == (0, "ready"), checked
    assert "not found" not in checked.stdout
    foretold = await office.site.cli("shadow", "--json")
    assert foretold.code == 0, foretold
    outcomes: Counter[str] = Counter()
    for said, count in json.loads(foretold.stdout)["outcomes"].items():
        outcomes[said.partition(":")[0]] += count
    # A follow-up waits for the mail before it.
    later = {} if office.example.steps == 1 else {"wait": 3}
    assert outcomes == {"send": 3, "skip": office.example.steps} | later
    assert office.site.sink.mails == []


@of(*ALL)
async def test_who_wants_no_mail_and_whose_address_is_none_is_told_in_the_app_s_words(
    office: Office,
) -> None:
    example = office.example
    campaign = await office.start(10 * example.steps)
    people = await office.people(campaign)
    unwilling, unknown = people[:2], people[2:5]
    await office.forget(unwilling)
    office.site.sink.script = by_recipient(
        Moment.RCPT, dict.fromkeys(unknown, "550 5.1.1 no such user")
    )
    await office.site.ready("worker")
    await office.later_mails([campaign])
    ended = await office.ended(campaign)
    sent, unwanted, refused = example.words
    # After a mail that could not be sent there is no follow-up.
    skipped = 2 if example.steps == 1 else 2 * 2 + 3
    assert await office.statuses(campaign) == {
        sent: 5 * example.steps,
        unwanted: skipped,
        refused: 3,
    }
    assert await office.counts(campaign) in (None, (5 * example.steps, 3))
    reached = Counter(one for mail in office.site.sink.mails for one in mail.recipients)
    assert reached == dict.fromkeys(people[5:], example.steps)
    if example.blocked is not None:

        async def app_is_told() -> bool:
            return await office.blocked() == sorted(unknown)

        await eventually(app_is_told, 20)
    if example.listed:
        assert ended == [{"returnvalue": {"total": 10, "sent": 5, "skipped": 2, "failed": 3}}]
        return
    failures = [one["failedReason"] for one in ended if "failedReason" in one]
    assert len(failures) == 3
    assert all("no such user" in one for one in failures)
    values = [one["returnvalue"] for one in ended if "returnvalue" in one]
    assert {frozenset(one) for one in values} == {example.returns}
    assert sum(one[example.id_field] is None for one in values) == skipped


@pytest.mark.parametrize(
    ("before", "after", "at", "said"),
    [
        (
            'recipient = "uuid"',
            'recipient = "bigint"',
            'r."id" = ANY(:ids)',
            "load.recipients: operator does not exist: uuid = bigint ([ids] says campaign uuid,",
        ),
        (
            '"recipient.id"',
            '"recipient.id"\nprogres = "count"',
            "progres",
            "jobs.send-campaign-email.progres: is not known here (did you mean progress?)",
        ),
    ],
    ids=["wrong type", "unknown field"],
)
@of(PRISMA)
async def test_a_contract_that_is_wrong_ends_the_start_with_a_line_to_mend(
    office: Office, tmp_path: Path, before: str, after: str, at: str, said: str
) -> None:
    text = (PRISMA.folder / "contract.toml").read_text().replace(before, after)
    file = tmp_path / "contract.toml"
    file.write_text(text)
    worker = office.site.start("worker", CONTRACT=str(file))
    assert await worker.ended() == 78
    line = text[: text.index(at)].count("\n") + 1
    assert f"{file}:{line}: {said}" in worker.output

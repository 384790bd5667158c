"""A contract is read, or refused with file, line and remedy for each fault."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from campaign_worker.contract import reading
from campaign_worker.contract.model import FollowUpJob, IdKind, SendJob
from campaign_worker.errors import ContractError

EXAMPLE = (resources.files("campaign_worker.contract") / "example.toml").read_text()


def faults(text: str) -> list[str]:
    with pytest.raises(ContractError) as caught:
        reading.read(text, "c.toml")
    return [str(one) for one in caught.value.problems]


def line_of(word: str) -> int:
    return EXAMPLE[: EXAMPLE.index(word)].count("\n") + 1


def test_the_example_is_a_contract() -> None:
    source = reading.read(EXAMPLE)
    contract = source.contract
    assert contract.queues["campaign"].concurrency == 20
    assert isinstance(contract.jobs["send-email"], SendJob)
    assert isinstance(contract.jobs["follow-up"], FollowUpJob)
    assert contract.ids.campaign is IdKind.TEXT
    assert source.statements["load.campaigns"].names == ("ids",)
    assert "$1::text[]" in source.statements["load.campaigns"].sql


@pytest.mark.parametrize(
    ("before", "after", "word", "said"),
    [
        (
            'campaignId"\nrec',
            'campaignId"\nrecipiant = "x"\nrec',
            'recipient = "rec',
            "jobs.send-email.recipiant: is not known here (did you mean recipient?)",
        ),
        (
            "concurrency = 20",
            'concurrency = "many"',
            "concurrency = 20",
            (
                "queues.campaign.concurrency: should be a valid integer,"
                " unable to parse string as an integer"
            ),
        ),
        (
            "concurrency = 20",
            "concurency = 20",
            "concurrency = 20",
            "queues.campaign.concurency: is not known here (did you mean concurrency?)",
        ),
        (
            'kind = "follow-up"',
            'kind = "followup"',
            "[jobs.follow-up]",
            "jobs.follow-up: needs a kind: send, follow-up, launch, park, fail",
        ),
        (
            'step = "step"',
            "",
            "[jobs.follow-up]",
            "jobs.follow-up: needs step or step_id, and not both (name the path of one)",
        ),
        (
            'campaign = "text"',
            'campaign = "guid"',
            'campaign = "text"',
            "ids.campaign: should be 'uuid', 'bigint', 'integer' or 'text'",
        ),
        (
            "ANY(:emails)",
            "ANY(:email)",
            "SELECT s.email",
            "load.suppressions: :email is no parameter of this statement (:emails)",
        ),
        (
            'draft = ["DRAFT"]',
            'draft = ["PAUSED"]',
            "draft = [",
            "load.campaigns.status.draft: 'PAUSED' is paused as well (name each word once)",
        ),
        ("version = 1", "version = 2", "version = 1", "version: should be 1"),
        ("version = 1", "version = ", "version = 1", "TOML: Invalid value"),
        (
            'sent = "SENT"',
            "",
            "[write.states]",
            (
                "write.states: has no word for sent"
                " (a Node worker beside this one would send such mails again)"
            ),
        ),
    ],
)
def test_a_fault_is_told_with_its_line(before: str, after: str, word: str, said: str) -> None:
    assert before in EXAMPLE
    line = line_of(word)
    assert faults(EXAMPLE.replace(before, after, 1)) == [f"c.toml:{line}: {said}"]


def test_all_faults_come_at_once() -> None:
    text = EXAMPLE.replace("concurrency = 20", "concurrency = 0\nlimit = 1")
    told = faults(text.replace('campaign = "text"', 'campaign = "x"'))
    assert [one.split(": ")[1] for one in told] == [
        "queues.campaign.concurrency",
        "queues.campaign.limit",
        "ids.campaign",
    ]


def test_what_a_job_needs_must_be_there() -> None:
    text = """
version = 1
[queues.q]
[jobs.a]
kind = "send"
[jobs.b]
kind = "send"
campaign = "c"
[jobs.b.mail]
to = "to"
subject = "subject"
[jobs.c]
kind = "launch"
campaign = "id"
"""
    told = [one.split(": ", 1) for one in faults(text)]
    assert [place for place, _ in told] == [
        *["c.toml:4"] * 4,
        "c.toml:8",
        "c.toml:9",
        *["c.toml:12"] * 3,
    ]
    assert told[4][1] == "jobs.b.campaign: stands beside mail (one of the two)"


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="campaign-worker contract init"):
        reading.load(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"\xff", b"#" * (1024 * 1024 + 1)])
def test_what_is_no_text_of_reasonable_size_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    with pytest.raises(ContractError, match=r"c\.toml:1: file: is"):
        reading.load(file)


def test_windows_newlines_change_no_line() -> None:
    text = EXAMPLE.replace("ANY(:emails)", "ANY(:email)")
    assert faults(text.replace("\n", "\r\n")) == faults(text)

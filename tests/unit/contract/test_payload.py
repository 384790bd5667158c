"""Jobs of apps are read as their contract says; every fault names the field as the app wrote it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.contract import reading
from campaign_worker.contract.asked import (
    AppMail,
    Asked,
    AskedLaunch,
    AskedMany,
    AskedOne,
    AskedOwn,
    AskedWhole,
    NobodysAnyMore,
    NotOurs,
    Unnamed,
)
from campaign_worker.contract.model import Progress
from campaign_worker.contract.payload import OWN_JOB, asked, job_for
from campaign_worker.delivery.requests import CampaignRequest
from campaign_worker.errors import PayloadError

TABLES = """
[load.campaigns]
query = "SELECT 1"
[load.campaigns.status]
running = ["on"]
[load.recipients]
query = "SELECT 1"
[load.steps]
query = "SELECT 1"
[load.audience]
query = "SELECT 1"
"""
TEXT = (
    """
version = 1
[queues.campaign]
[queues.late]
[ids]
campaign = "uuid"
recipient = "bigint"
[jobs.send]
kind = "send"
campaign = "campaign.id"
recipient = "contact.id"
[jobs.batch]
kind = "send"
campaign = "campaignId"
recipients = "people"
recipient = "id"
parallel = 3
progress = "count"
[jobs.plain-batch]
kind = "send"
campaign = "campaignId"
recipients = "ids"
[jobs."late:send"]
kind = "follow-up"
campaign = "campaignId"
recipient = "recipientId"
step = "step"
[jobs.second]
kind = "follow-up"
campaign = "campaignId"
recipient = "recipientId"
step = 2
[jobs.by-id]
kind = "follow-up"
campaign = "campaignId"
recipient = "recipientId"
step_id = "followUp.id"
[jobs.whole]
kind = "send"
[jobs.whole.mail]
to = "mail.email"
subject = "mail.title"
html = "mail.body"
from = "mail.sender"
key = "mail.id"
[jobs.launch]
kind = "launch"
campaign = "campaignId"
[jobs.report]
kind = "park"
[jobs.old]
kind = "fail"
"""
    + TABLES
)
CONTRACT = reading.read(TEXT).contract
UUID = "0190a3c4-5d6e-7f80-9192-a3b4c5d6e7f8"


@dataclasses.dataclass
class Job:
    data: Any
    name: str = "send"
    queue_name: str = "campaign"
    id: str = "7"
    opts: dict[str, Any] = dataclasses.field(default_factory=dict)
    timestamp: int = 9
    attempts_made: int = 0


def read(data: Any, name: str = "send", queue: str = "campaign") -> Asked:
    return asked(CONTRACT, Job(data, name, queue))


def refused(data: Any, name: str = "send") -> str:
    with pytest.raises(PayloadError) as caught:
        read(data, name)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "queue", "data", "expected"),
    [
        (
            "send",
            "campaign",
            {"campaign": {"id": UUID.upper()}, "contact": {"id": "5"}},
            AskedOne(AppMail(UUID, "5")),
        ),
        (
            "send",
            "late",
            {"campaignId": UUID, "recipientId": 5, "step": "3"},
            AskedOne(AppMail(UUID, "5", 3)),
        ),
        (
            "second",
            "late",
            {"campaignId": UUID, "recipientId": 2**60},
            AskedOne(AppMail(UUID, str(2**60), 2)),
        ),
        (
            "batch",
            "campaign",
            {"campaignId": UUID, "people": [{"id": 1}, {"id": "2"}, {"id": 1}]},
            AskedMany((AppMail(UUID, "1"), AppMail(UUID, "2")), Progress.COUNT, 3),
        ),
        (
            "plain-batch",
            "campaign",
            {"campaignId": UUID, "ids": []},
            AskedMany((), Progress.PERCENT, 5),
        ),
        ("launch", "campaign", {"campaignId": UUID}, AskedLaunch(UUID)),
        ("report", "campaign", None, NotOurs()),
        ("old", "campaign", 5, NobodysAnyMore()),
        ("new", "campaign", {}, Unnamed()),
        (
            OWN_JOB,
            "late",
            {"campaignWorker": {"campaignId": 1, "recipientId": 2, "step": 3}},
            AskedOwn(CampaignRequest(1, 2, 3)),
        ),
    ],
)
def test_a_job_is_what_its_name_in_its_queue_says(
    name: str, queue: str, data: Any, expected: Asked
) -> None:
    assert read(data, name, queue) == expected


def test_a_whole_mail_is_found_by_its_paths_and_known_by_its_key() -> None:
    mail = {"email": "a@b.cc", "title": "t", "body": "<p>", "sender": "s@b.cc", "id": 17}
    found = read({"mail": mail}, "whole")
    assert isinstance(found, AskedWhole)
    assert found.request.key == "17"
    assert (found.request.mail.to, found.request.mail.sender) == (("a@b.cc",), "s@b.cc")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("send", {"campaign": {}}, "campaign.id: is missing"),
        ("send", None, "campaign.id: is missing"),
        ("send", {"campaign": {"id": 5}}, "campaign.id: must be a UUID, not a number"),
        ("send", {"campaign": {"id": "x"}}, "campaign.id: is no UUID"),
        (
            "send",
            {"campaign": {"id": UUID}, "contact": {"id": True}},
            "contact.id: must be a number, not true or false",
        ),
        (
            "send",
            {"campaign": {"id": UUID}, "contact": {"id": 2**63}},
            "contact.id: is no number that its column could hold",
        ),
        ("batch", {"campaignId": UUID, "people": {}}, "people: must be a list"),
        ("batch", {"campaignId": UUID, "people": [{"id": 1}, {}]}, "people.1.id: is missing"),
        ("batch", {"campaignId": UUID, "people": [[]]}, "people.0.id: is missing"),
        ("second", {"campaignId": UUID}, "recipientId: is missing"),
        ("whole", {"mail": {"title": "t", "body": "b", "id": 1}}, "mail.email: is missing"),
        (
            "whole",
            {"mail": {"email": "a@b", "title": 5, "body": "b", "id": 1}},
            "mail.title: Input should be a valid string",
        ),
        (
            "whole",
            {"mail": {"email": "a@b", "title": "t", "id": 1}},
            "mail.body: html or text must be given",
        ),
        ("whole", {"mail": {"email": "a@b", "title": "t", "body": "b"}}, "mail.id: is missing"),
    ],
)
def test_a_fault_names_the_field_as_the_app_wrote_it(name: str, data: Any, said: str) -> None:
    assert refused(data, name).startswith(said)


@pytest.mark.parametrize(
    ("queue", "mail"),
    [
        ("campaign", AppMail(UUID, "5")),
        ("campaign", AppMail(UUID, "5", 2)),
        ("late", AppMail(UUID, "5", 7)),
        ("late", AppMail(UUID, str(2**60), 1)),
    ],
)
def test_a_job_that_is_made_for_a_mail_asks_for_that_mail(queue: str, mail: AppMail) -> None:
    made = job_for(CONTRACT, queue, mail)
    assert made is not None
    name, data = made
    expected = AskedMany((mail,), Progress.PERCENT, 5) if name == "plain-batch" else AskedOne(mail)
    assert read(json.loads(json.dumps(data)), name, queue) in (
        expected,
        AskedMany((mail,), Progress.COUNT, 3),
    )


def test_a_follow_up_may_be_known_by_its_id_instead_of_its_number() -> None:
    data = {"campaignId": UUID, "recipientId": 5, "followUp": {"id": 17}}
    assert read(data, "by-id") == AskedOne(AppMail(UUID, "5", step_id="17"))
    made = job_for(CONTRACT, "campaign", AppMail(UUID, "5", 3, "17"))
    assert made == ("by-id", data | {"followUp": {"id": "17"}})


def test_what_no_job_of_a_queue_can_say_is_left_to_our_own_form() -> None:
    assert job_for(CONTRACT, "campaign", AppMail(UUID, "5", 7)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["campaignId", "people", "id", "mail", "to", "ids"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    JSON, st.sampled_from(["send", "batch", "plain-batch", "second", "whole", "launch", OWN_JOB])
)
def test_whatever_a_job_holds_is_read_or_refused(data: Any, name: str) -> None:
    field, told = "", None
    try:
        told = read(data, name)
    except PayloadError as error:
        field = error.field
    assert (told is None) == bool(field)

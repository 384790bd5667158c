"""Jobs that we add ourselves: ids that make adding twice adding once, data that we read back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.model import Attachment
from campaign_worker.delivery.payload import parse
from campaign_worker.delivery.requests import CampaignRequest, InlineMail, InlineRequest
from campaign_worker.sequence.jobs import (
    DEFAULT_OPTIONS,
    MailJob,
    inline_job,
    inline_job_id,
    mail_job,
)

ids = st.integers(1, 2**63 - 1)


def read_back(job: MailJob) -> CampaignRequest | InlineRequest:
    """Parse a job's data as the worker will, after its way through Redis."""
    data = json.loads(json.dumps(job.data))
    return parse(job.name, data, queue="campaign", job_id=job.id, timestamp_ms=1)


@given(ids, ids, st.integers(0, 10_000))
def test_a_mails_job_asks_for_that_mail(campaign: int, recipient: int, step: int) -> None:
    job = mail_job(campaign, recipient, step)
    assert read_back(job) == CampaignRequest(campaign, recipient, step)
    assert ":" not in job.id
    assert not job.id.isdigit()
    assert job.id == mail_job(campaign, recipient, step, delay_seconds=5).id


def test_a_mails_job_has_the_id_that_every_version_gives_it() -> None:
    assert mail_job(1, 2, 3).id == "mail-1-2-3"
    assert inline_job_id(4) == "mail-row-4"


def test_steps_and_recipients_have_ids_of_their_own() -> None:
    jobs = {mail_job(c, r, s).id for c in (1, 11) for r in (1, 11) for s in (0, 1, 11)}
    assert len(jobs) == 12


def test_a_delay_is_never_negative() -> None:
    assert mail_job(1, 1, 1, delay_seconds=-3).delay_seconds == 0.0


def test_a_follow_up_takes_over_how_the_app_retries_and_cleans_up() -> None:
    like = {"attempts": 7, "removeOnFail": True, "delay": 5, "jobId": "x", "repeat": {"every": 1}}
    assert mail_job(1, 1, 1, like=like).options == {"attempts": 7, "removeOnFail": True}
    job = mail_job(1, 1, 1)
    assert job.options == DEFAULT_OPTIONS
    job.options["attempts"] = 99
    assert mail_job(1, 1, 1).options["attempts"] == DEFAULT_OPTIONS["attempts"] == 3


texts = st.text(st.characters(codec="utf-8", exclude_characters=chr(0)))
addresses = st.lists(st.emails(), max_size=3).map(tuple)
mails = st.builds(
    InlineMail,
    to=st.lists(st.emails(), min_size=1, max_size=3).map(tuple),
    subject=texts,
    html=st.none() | texts,
    text=texts,
    sender=st.none() | st.emails(),
    reply_to=st.none() | st.emails(),
    cc=addresses,
    bcc=addresses,
    headers=st.dictionaries(texts, texts, max_size=3),
    attachments=st.lists(
        st.builds(Attachment, texts.filter(bool), st.binary(), texts), max_size=2
    ).map(tuple),
)


@given(ids, texts.filter(bool), st.none() | ids, mails)
def test_a_self_contained_mail_made_anew_is_the_same_mail(
    row: int, key: str, campaign: int | None, mail: InlineMail
) -> None:
    # A row's key has been shortened once; shortening it again changes nothing.
    first = read_back(inline_job(row, key, campaign, mail))
    assert isinstance(first, InlineRequest)
    assert (first.mail, first.campaign_id) == (mail, campaign)
    assert read_back(inline_job(row, first.key, campaign, first.mail)) == first

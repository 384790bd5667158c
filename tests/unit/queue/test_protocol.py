"""What the scripts are called with: options are packed in part beforehand, and must not show it."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.queue import Job
from campaign_worker.queue.clock import RedisClock
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.options import WorkerOptions
from campaign_worker.queue.protocol import Protocol
from campaign_worker.queue.scripts import load_scripts

SHARED = {
    "name": "one",
    "lockDuration": 30_000,
    "limiter": {"max": 7, "duration": 1000},
}
PROTOCOL = Protocol(
    QueueKeys("mail"),
    WorkerOptions.parse({**SHARED, "removeOnComplete": {"count": 5}, "autorun": False}),
    load_scripts(),
    RedisClock(),
)
#: Position of the packed options among the arguments of moveToFinished.
_OPTIONS = 7


@given(st.text(st.characters(codec="utf-8")))
def test_any_token_is_what_a_claim_locks_under(token: str) -> None:
    packed = PROTOCOL.claim(token).arguments[2]
    assert isinstance(packed, bytes)
    assert msgpack.unpackb(packed) == {"token": token, **SHARED}


@given(st.lists(st.integers(0, 3) | st.booleans(), max_size=5))
def test_jobs_that_differ_in_attempts_only_do_not_get_each_others_options(
    attempts: list[int],
) -> None:
    for number in attempts:
        options = _end({"attempts": number}, "completed")
        assert (options["attempts"], options["keepJobs"]) == (int(number), {"count": 5})
        assert _end({"attempts": number}, "failed")["keepJobs"] == {"count": -1}


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        ({}, {"attempts": 0, "keepJobs": {"count": 5}, "fpof": False}),
        ({"removeOnComplete": True}, {"keepJobs": {"count": 0}}),
        ({"removeOnComplete": 1}, {"keepJobs": {"count": 1}}),
        ({"removeOnComplete": {"age": 60, "limit": 9}}, {"keepJobs": {"age": 60, "limit": 9}}),
        ({"failParentOnFailure": True}, {"fpof": True, "cpof": False, "idof": False}),
        ({"removeDependencyOnFailure": True}, {"rdof": True, "fpof": False}),
    ],
)
def test_a_jobs_own_options_decide_about_its_end(
    opts: dict[str, Any], expected: dict[str, Any]
) -> None:
    # First a plain job, whose options are remembered.
    for each in ({}, opts):
        options = _end(each, "completed")
    assert {name: options[name] for name in expected} == expected
    assert {name: options[name] for name in ("token", *SHARED)} == {"token": "w:1", **SHARED}


def _end(opts: dict[str, Any], target: str) -> dict[str, Any]:
    job = Job("mail", "1", {})
    job.opts = opts
    if target == "completed":
        call = PROTOCOL.complete(job, "w:1", "null", fetch=True)
    else:
        call = PROTOCOL.fail(job, "w:1", "why", [], fetch=True)
    packed = call.arguments[_OPTIONS]
    assert isinstance(packed, bytes)
    unpacked: dict[str, Any] = msgpack.unpackb(packed)
    return unpacked

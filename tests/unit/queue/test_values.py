"""Pure parts: JSON, backoff, signals, keys, the job's read model."""

from __future__ import annotations

import asyncio
import enum
import json
import math
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.errors import PayloadError
from campaign_worker.queue import AbortReason, AbortSignal, Completed, Failed, Job, JobSpec
from campaign_worker.queue.backoff import backoff_delay
from campaign_worker.queue.control import is_named
from campaign_worker.queue.jsonvalue import from_json, to_json
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.link import Backoff
from campaign_worker.queue.moves import Complete, Fail, decide
from campaign_worker.queue.options import WorkerOptions
from campaign_worker.queue.protocol import Claimed, NothingDue, parse_next

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class _Colour(enum.Enum):
    RED = "red"


@given(JSON)
def test_every_json_value_is_written_as_json_that_utf8_can_carry(value: Any) -> None:
    text = to_json(value)
    text.encode()
    assert json.loads(text) == _as_node(value)


@given(JSON, st.sampled_from(["", " ", "\n\t"]), st.sampled_from(["", " ", " x", "}"]))
def test_json_is_read_as_the_standard_library_reads_it(value: Any, before: str, after: str) -> None:
    text = before + json.dumps(value) + after
    if after.strip():
        with pytest.raises(ValueError, match="Extra data"):
            from_json(text)
    else:
        # Compared as text: NaN is not equal to itself.
        assert json.dumps(from_json(text)) == json.dumps(json.loads(text))


@pytest.mark.parametrize("text", ["", "{", "nul", "\ufeff{}", "[" * 100_000, "9" * 10_000])
def test_a_payload_that_is_no_json_is_a_payload_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own words differ
        from_json(text)
    with pytest.raises(PayloadError):
        Job.from_hash("q", "1", {"data": text or "x"})
    assert Job("q", "1", {"progress": text, "stacktrace": text}).stacktrace == []


@pytest.mark.parametrize("value", [1, math.nan])
def test_a_value_that_is_nested_too_deeply_is_a_value_error(value: Any) -> None:
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="deeply"):
        to_json(value)


@given(st.text())
def test_a_job_hash_never_breaks_the_read_model(text: str) -> None:
    raw = dict.fromkeys(
        ("timestamp", "delay", "atm", "ats", "stc", "progress", "stacktrace", "parent"), text
    )
    assert isinstance(Job("q", "1", raw).attempts_made, int)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=3))),
            '"2026-01-02T00:00:00.000Z"',
        ),
        (datetime(2026, 1, 2, tzinfo=UTC).date(), '"2026-01-02"'),
        (bytearray(b"a"), '{"type":"Buffer","data":[97]}'),
        ({1: Decimal("1.5"), None: {2}}, '{"1":"1.5","null":[2]}'),
        (_Colour.RED, '"red"'),
        (Completed(1), '{"value":1}'),
        ([math.inf, {"a": -math.inf}], '[null,{"a":null}]'),
        ("\ud800", '"\\ud800"'),
        (["ß", math.nan], '["ß",null]'),
        ((1, 2), "[1,2]"),
    ],
)
def test_what_json_has_no_form_for_becomes_what_node_makes_of_it(value: Any, text: str) -> None:
    assert to_json(value) == text


@pytest.mark.parametrize(
    ("backoff", "made", "delay"),
    [
        (None, 0, 0),
        (0, 0, 0),
        (250, 3, 250),
        ({"type": "fixed", "delay": 99.9}, 0, 99),
        ({"type": "exponential", "delay": 100}, 0, 100),
        ({"type": "exponential", "delay": 100}, 3, 800),
        ({"type": "exponential", "delay": 2.5}, 0, 3),
    ],
)
async def test_backoff_follows_bullmq(backoff: Any, made: int, delay: int) -> None:
    job = _job(opts={"backoff": backoff}, atm=made)
    assert await backoff_delay(job, ValueError(), None) == delay


async def test_jitter_stays_within_its_share() -> None:
    job = _job(opts={"backoff": {"type": "fixed", "delay": 1000, "jitter": 0.5}})
    delays = [await backoff_delay(job, ValueError(), None) for _ in range(200)]
    assert all(delay is not None and 500 <= delay <= 1000 for delay in delays)
    assert len(set(delays)) > 20


async def test_a_failure_is_final_when_attempts_are_used_up() -> None:
    options = WorkerOptions.parse(None)
    move = await decide(Failed(ValueError("no")), _job(opts={"attempts": 2}, atm=1), options)
    assert isinstance(move, Fail)
    assert move.reason == "no"


async def test_the_stack_trace_limit_is_kept() -> None:
    options = WorkerOptions.parse(None)
    for limit, kept in ((0, 0), (2, 2), (9, 4)):
        job = _job(opts={"stackTraceLimit": limit}, stacktrace='["1","2","3"]')
        move = await decide(Failed(ValueError("no")), job, options)
        assert isinstance(move, Fail)
        assert len(json.loads(move.fields[3])) == kept


async def test_a_result_goes_with_its_json() -> None:
    move = await decide(Completed({"a": 1}), _job(), WorkerOptions.parse(None))
    assert move == Complete({"a": 1}, '{"a":1}')


def test_errors_are_told_by_the_name_of_any_of_their_classes() -> None:
    base = type("UnrecoverableError", (Exception,), {})
    derived = type("MailGone", (base,), {})
    assert is_named(derived(), "UnrecoverableError")
    assert not is_named(ValueError(), "UnrecoverableError")


async def test_a_signal_keeps_its_first_reason_and_wakes_who_waits() -> None:
    signal = AbortSignal()
    waiting = asyncio.create_task(signal.wait())
    assert not signal.aborted
    await asyncio.sleep(0)
    signal.abort(AbortReason.SHUTDOWN)
    signal.abort(AbortReason.CANCELLED)
    assert await waiting is AbortReason.SHUTDOWN
    assert await signal.wait() is AbortReason.SHUTDOWN


def test_a_signal_is_a_fence_even_if_nobody_has_told_it() -> None:
    signal = AbortSignal()
    signal.valid_until = time.monotonic() - 0.001
    assert signal.reason is AbortReason.LOCK_LOST
    fenced = AbortSignal()
    fenced.fence()
    fenced.renew(time.monotonic() + 60)
    assert fenced.aborted


def test_an_outage_of_any_length_is_over_within_a_second() -> None:
    backoff = Backoff()
    waits = [backoff.next() for _ in range(200)]
    assert waits[0] < 0.1
    assert max(waits) <= 1
    assert len(set(waits[-50:])) > 20


def test_a_named_worker_is_named_as_node_names_it() -> None:
    keys = QueueKeys("mails", "app")
    assert keys.client_name(None) == "app:bWFpbHM="
    assert keys.client_name("anna") == "app:bWFpbHM=:w:anna"


def test_a_job_reads_both_counters_and_long_option_names() -> None:
    raw = {"attemptsMade": "1", "atm": "2", "opts": '{"kl":5,"fpof":true}', "data": "[1]"}
    job = Job.from_hash("q", "7", raw)
    assert (job.attempts_made, job.attemptsMade, job.data) == (3, 3, [1])
    assert job.opts == {"keepLogs": 5, "failParentOnFailure": True}
    with pytest.raises(AttributeError):
        _ = job.nobodyKnows


@pytest.mark.parametrize(("field", "text"), [("data", "{"), ("opts", "{"), ("opts", "[]")])
def test_a_hash_that_is_no_json_names_its_field(field: str, text: str) -> None:
    with pytest.raises(PayloadError) as refused:
        Job.from_hash("q", "7", {field: text})
    assert refused.value.field == field


def test_answers_about_the_next_job_are_told_apart() -> None:
    assert parse_next([["a", "1", "b", "2"], "7", 0, 0]) == Claimed({"a": "1", "b": "2"}, "7")
    assert parse_next([0, 0, 250, 0]) == NothingDue(limited_ms=250)
    assert parse_next([0, 0, 0, "1700000000000"]) == NothingDue(due_ms=1_700_000_000_000)
    assert parse_next(0) is None


@pytest.mark.parametrize("job_id", ["", "a:b", "123"])
def test_ids_that_bullmq_refuses_are_refused(job_id: str) -> None:
    with pytest.raises(ValueError, match="job id"):
        JobSpec("mail", {}, job_id)


def _job(opts: dict[str, Any] | None = None, atm: int = 0, **raw: str) -> Job:
    return Job.from_hash("q", "1", {"opts": json.dumps(opts or {}), "atm": str(atm), **raw})


def _as_node(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_as_node(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_node(item) for key, item in value.items()}
    return value

"""The queue's own script calls in any order, on a real Redis: nothing lost, nothing done twice.

The calls are those of `queue/protocol.py`; workers are models that lose replies, connections and
themselves. The clock is advanced by ending locks, as their expiry would.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from campaign_worker.queue import JobSpec, Producer
from campaign_worker.queue.clock import RedisClock
from campaign_worker.queue.flight import Tokens
from campaign_worker.queue.job import Job
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.options import WorkerOptions
from campaign_worker.queue.protocol import Call, Claimed, Protocol, parse_next
from campaign_worker.queue.scripts import load_scripts

QUEUE = "mails"
WORKERS = 3
EXAMPLES = 200
STEPS = 40
LOCK_MS = 60_000
# A job that stalls more often is failed by BullMQ; how often is not what is looked at here.
STALLS_ALLOWED = 1000
LISTS = ("wait", "active")
SETS = ("delayed", "prioritized", "completed", "failed")


class Queue:
    """One queue, and the calls that workers and producers make."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client = client
        self.keys = QueueKeys(QUEUE, prefix)
        self.scripts = load_scripts()
        options = {"lockDuration": LOCK_MS, "stalledInterval": 1, "maxStalledCount": STALLS_ALLOWED}
        self.protocol = Protocol(
            self.keys, WorkerOptions.parse(options), self.scripts, RedisClock()
        )
        self._producer: Any = Producer(client, QUEUE, prefix)

    def run(self, call: Call) -> Any:
        return self.client.eval(call.script.text, len(call.keys), *call.keys, *call.arguments)

    def add(self, job_id: str) -> None:
        self.run(self._producer._add(JobSpec("mail", {}, job_id), int(time.time() * 1000)))

    def sweep(self) -> list[str]:
        self.client.delete(self.keys.of("stalled-check"))
        return [str(job_id) for job_id in self.run(self.protocol.sweep_stalled())]

    def extend(self, holds: dict[str, str]) -> list[str]:
        """Renew locks; the ids that Redis refuses."""
        packed = [msgpack.packb(list(part)) for part in (holds.values(), holds.keys())]
        text = self.scripts["extendLocks"].text
        refused = self.client.eval(
            text, 1, self.keys.of("stalled"), self.keys.base, *packed, LOCK_MS
        )
        return [str(job_id) for job_id in refused]

    def owner(self, job_id: str) -> str | None:
        """Return the token that the job is locked with."""
        return self.client.get(self.keys.lock(job_id))

    def expire(self, job_id: str) -> None:
        self.client.delete(self.keys.lock(job_id))

    def places(self) -> Counter[tuple[str, str]]:
        """Return how often each job stands in each state."""
        found: Counter[tuple[str, str]] = Counter()
        for kind in LISTS:
            found.update((job, kind) for job in self.client.lrange(self.keys.of(kind), 0, -1))
        for kind in SETS:
            found.update((job, kind) for job in self.client.zrange(self.keys.of(kind), 0, -1))
        return found

    def completions(self) -> Counter[str]:
        """Return how often each job was completed, by the queue's own events."""
        events = self.client.xrange(self.keys.of("events"))
        return Counter(fields["jobId"] for _, fields in events if fields["event"] == "completed")


class Hand:
    """One worker. `holds`: token by job, as it believes."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._tokens = Tokens()
        self._jobs: dict[str, Job] = {}
        self.holds: dict[str, str] = {}
        self.connected = True
        self.paused = False
        self.won: list[str] = []

    def claim(self, *, reply_lost: bool = False) -> None:
        token = self._tokens.take()
        reply = self._queue.run(self._queue.protocol.claim(token))
        if not self._lost(reply_lost):
            self._take(parse_next(reply), token)

    def finish(self, job_id: str, *, fetch: bool, reply_lost: bool = False) -> None:
        token = self.holds[job_id]
        call = self._queue.protocol.complete(self._jobs[job_id], token, '"done"', fetch=fetch)
        owner = self._queue.owner(job_id)
        reply = self._queue.run(call)
        assert _done(reply) == (owner == token), "only the owner of the lock may finish"
        if self._lost(reply_lost):
            return
        del self.holds[job_id]
        if _done(reply):
            self.won.append(job_id)
            self._take(parse_next(reply), token)

    def hand_back(self, job_id: str, *, reply_lost: bool = False) -> None:
        token = self.holds[job_id]
        owner = self._queue.owner(job_id)
        reply = self._queue.run(self._queue.protocol.hand_back(job_id, token))
        assert (reply >= 0) == (owner == token), "only the owner of the lock may hand back"
        if not self._lost(reply_lost):
            del self.holds[job_id]

    def renew(self) -> None:
        if self.holds:
            for job_id in self._queue.extend(self.holds):
                del self.holds[job_id]

    def heal(self) -> None:
        """Do what a worker does on a new connection: learn what is still ours, return orphans."""
        self.connected = True
        self.holds = {
            job_id: token
            for job_id, token in self.holds.items()
            if self._queue.owner(job_id) == token
        }
        flat = self._queue.run(self._queue.protocol.claimed_by(self._tokens.prefix))
        for job_id, token in zip(flat[::2], flat[1::2], strict=True):
            if self.holds.get(job_id) != token:
                self._queue.run(self._queue.protocol.hand_back(job_id, token))

    def stop(self) -> None:
        if not self.connected:
            self.heal()
        for job_id in list(self.holds):
            self.hand_back(job_id)

    def _lost(self, reply_lost: bool) -> bool:
        if reply_lost:
            self.connected = False
        return reply_lost

    def _take(self, answer: Any, token: str) -> None:
        if isinstance(answer, Claimed):
            job = Job(QUEUE, answer.job_id, answer.raw)
            job.load(answer.raw)
            self._jobs[answer.job_id] = job
            self.holds[answer.job_id] = token


worker = st.integers(0, WORKERS - 1)
pick = st.integers(0, 20)
rarely = st.sampled_from([False, False, False, True])


class Machine(RuleBasedStateMachine):
    """Any order of what workers, producers, networks and clocks do."""

    client: redis.Redis
    prefix: str
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(self.client, f"{self.prefix}:{next(self.numbers)}")
        self.hands = [Hand(self.queue) for _ in range(WORKERS)]
        self.added: list[str] = []
        self.won: Counter[str] = Counter()

    @initialize()
    def begin_in_the_middle(self) -> None:
        self.enqueue(count=2 * WORKERS)
        for hand in self.hands:
            hand.claim()

    @rule(count=st.integers(1, 3))
    def enqueue(self, count: int) -> None:
        for _ in range(count):
            job_id = f"j{len(self.added)}"
            self.queue.add(job_id)
            self.added.append(job_id)

    @precondition(lambda self: self._able())
    @rule(index=pick, reply_lost=rarely)
    def claim(self, index: int, reply_lost: bool) -> None:
        able = self._able()
        able[index % len(able)].claim(reply_lost=reply_lost)

    @precondition(lambda self: self._held())
    @rule(index=pick, fetch=st.booleans(), reply_lost=rarely)
    def finish(self, index: int, fetch: bool, reply_lost: bool) -> None:
        hand, job_id = self._pick(index)
        hand.finish(job_id, fetch=fetch and not hand.paused, reply_lost=reply_lost)

    @precondition(lambda self: self._held())
    @rule(index=pick, reply_lost=rarely)
    def hand_back(self, index: int, reply_lost: bool) -> None:
        hand, job_id = self._pick(index)
        hand.hand_back(job_id, reply_lost=reply_lost)

    @precondition(lambda self: self._held())
    @rule(index=pick)
    def renew(self, index: int) -> None:
        self._pick(index)[0].renew()

    @rule(number=worker)
    def pause(self, number: int) -> None:
        self.hands[number].paused = not self.hands[number].paused

    @rule(number=worker)
    def crash(self, number: int) -> None:
        self._replace(number)

    @rule(number=worker)
    def stop(self, number: int) -> None:
        self.hands[number].stop()
        self._replace(number)

    @rule(number=worker)
    def cut(self, number: int) -> None:
        self.hands[number].connected = False

    @rule(number=worker)
    def heal(self, number: int) -> None:
        self.hands[number].heal()

    @precondition(lambda self: self._held())
    @rule(index=pick)
    def advance_clock(self, index: int) -> None:
        """Let a lock that was not renewed expire; a stalled interval passes for all."""
        self.queue.expire(self._pick(index)[1])
        self.queue.sweep()

    @rule()
    def advance_clock_for_everybody(self) -> None:
        self._end_all_locks()
        self.queue.sweep()

    @invariant()
    def each_job_is_in_one_place_and_finished_once_at_most(self) -> None:
        places = self.queue.places()
        assert Counter(job for job, _ in places.elements()) == Counter(self.added)
        assert all(count == 1 for count in self.queue.completions().values())
        won = self.won + Counter(job for hand in self.hands for job in hand.won)
        assert all(count == 1 for count in won.values())

    def teardown(self) -> None:
        """Whatever has happened, a worker that comes now finishes every job."""
        for hand in self.hands:
            hand.heal()
            hand.stop()
        self._end_all_locks()
        self.queue.sweep()
        self.queue.sweep()
        last = Hand(self.queue)
        for _ in self.added:
            last.claim()
            for job_id in list(last.holds):
                last.finish(job_id, fetch=False)
        assert self.queue.completions() == Counter(self.added)
        assert {kind for _, kind in self.queue.places()} <= {"completed"}

    def _able(self) -> list[Hand]:
        return [hand for hand in self.hands if hand.connected and not hand.paused]

    def _held(self) -> list[tuple[Hand, str]]:
        return [(hand, job) for hand in self.hands if hand.connected for job in hand.holds]

    def _pick(self, index: int) -> tuple[Hand, str]:
        held = self._held()
        return held[index % len(held)]

    def _replace(self, number: int) -> None:
        self.won.update(self.hands[number].won)
        self.hands[number] = Hand(self.queue)

    def _end_all_locks(self) -> None:
        for job_id in self.added:
            self.queue.expire(job_id)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def test_no_order_of_faults_loses_a_job_or_has_it_finished_by_two(
    client: redis.Redis, prefix: str
) -> None:
    class OnThisRedis(Machine):
        pass

    OnThisRedis.client, OnThisRedis.prefix = client, prefix
    run_state_machine_as_test(
        OnThisRedis,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("expired", [False, True], ids=["lock alive", "lock expired"])
@pytest.mark.parametrize(
    "order", [*itertools.permutations(["hand back", "finish", "sweep"])], ids=str
)
def test_of_hand_back_completion_and_stalled_sweep_exactly_one_wins(
    client: redis.Redis, prefix: str, order: tuple[str, ...], expired: bool
) -> None:
    queue = Queue(client, prefix)
    queue.add("one")
    hand = Hand(queue)
    hand.claim()
    token, job = hand.holds["one"], hand._jobs["one"]
    queue.sweep()
    if expired:
        queue.expire("one")
    calls = {
        "hand back": lambda: queue.run(queue.protocol.hand_back("one", token)) >= 0,
        "finish": lambda: _done(queue.run(queue.protocol.complete(job, token, "1", fetch=False))),
        "sweep": lambda: queue.sweep() == ["one"],
    }
    wins = [name for name in order if calls[name]()]
    expected = "sweep" if expired else next(name for name in order if name != "sweep")
    assert wins == [expected]
    [((_, state), count)] = queue.places().items()
    assert (state, count) == ("completed" if expected == "finish" else "wait", 1)
    raw = client.hgetall(queue.keys.job("one"))
    assert (raw.get("stc"), raw.get("atm")) == (
        "1" if expected == "sweep" else None,
        "1" if expected == "finish" else None,
    )


def _done(reply: Any) -> bool:
    return isinstance(reply, list) or int(reply) >= 0

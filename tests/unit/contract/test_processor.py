"""A job of an app ends as its mails do: one, many, or none that the contract knows."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from campaign_worker.contract import reading
from campaign_worker.contract.asked import AppMail
from campaign_worker.contract.processor import ContractProcessor
from campaign_worker.delivery import outcomes
from campaign_worker.delivery.claims import MessageState, Missing
from campaign_worker.delivery.outcomes import Outcome
from campaign_worker.delivery.requests import CampaignRequest, Request
from campaign_worker.errors import DatabaseAway, JobGone, MailNotSent, PayloadError, RedisAway
from campaign_worker.queue.abort import AbortReason, AbortSignal
from campaign_worker.queue.endings import Completed, Deferred, Ending, Failed, HandedBack
from tests.unit.contract.test_payload import TABLES

CONTRACT = reading.read(
    """
version = 1
[queues.campaign]
[ids]
campaign = "bigint"
recipient = "bigint"
[jobs.one]
kind = "send"
campaign = "c"
recipient = "r"
returns = { ok = true, id = ":message_id", how = ":outcome" }
[jobs.many]
kind = "send"
campaign = "c"
recipients = "rs"
parallel = 2
[jobs.counted]
kind = "send"
campaign = "c"
recipients = "rs"
progress = "count"
returns = { delivered = ":sent", of = ":total" }
[jobs.launch]
kind = "launch"
campaign = "c"
[jobs.report]
kind = "park"
[jobs.old]
kind = "fail"
"""
    + TABLES
).contract
SENT = outcomes.Sent("<m@x>")


@dataclasses.dataclass
class Job:
    name: str
    data: Any
    id: str = "7"
    opts: dict[str, Any] = dataclasses.field(default_factory=dict)
    timestamp: int = 5
    attempts_made: int = 0
    queue_name: str = "campaign"
    progress: list[Any] = dataclasses.field(default_factory=list)
    error: Exception | None = None

    async def update_progress(self, progress: Any) -> None:
        if self.error is not None:
            raise self.error
        self.progress.append(progress)


class Post:
    """Delivers, tables, gate and launches that do as they are told, and note it."""

    def __init__(self) -> None:
        self.answers: dict[int, Outcome | Exception] = {}
        self.states: dict[int, MessageState] = {}
        self.missing: set[int] = set()
        self.delivered: list[int] = []
        self.under_way = self.most_under_way = 0
        self.after: Callable[[], None] = lambda: None
        self.away: list[Exception] = []
        self.down: Exception | None = None
        self.pages: list[list[str]] = []
        self.launched: list[int] = []

    async def deliver(self, _job: Any, request: Request, signal: Any) -> Outcome:
        assert isinstance(request, CampaignRequest)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if signal.aborted:
            return outcomes.Interrupted("stopping")
        self.delivered.append(request.recipient_id)
        self.after()
        answer = self.answers.get(request.recipient_id, SENT)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ending(self, outcome: Outcome) -> Ending:
        match outcome:
            case outcomes.Sent(message_id):
                return Completed({"outcome": "sent", "messageId": message_id})
            case outcomes.Skipped(reason):
                return Completed({"outcome": "skipped", "reason": reason})
            case _:
                return HandedBack("other")

    def refused(self, _job: Any, error: PayloadError) -> Ending:
        return Failed(error, retry=False)

    def unknown(self, _job: Any) -> Ending:
        return Deferred(-1)

    def parked(self) -> Ending:
        return Deferred(-2)

    def until_ms(self, seconds: float) -> int:
        return round(seconds * 1000)

    async def resolve(self, mail: AppMail) -> CampaignRequest | Missing:
        if self.down is not None:
            raise self.down
        recipient = int(mail.recipient)
        if recipient in self.missing:
            return Missing("recipient", "not there")
        return CampaignRequest(int(mail.campaign), recipient, mail.step)

    async def resolve_all(self, mails: Sequence[AppMail]) -> list[CampaignRequest | Missing]:
        return [await self.resolve(mail) for mail in mails]

    async def standing(
        self, requests: Sequence[CampaignRequest]
    ) -> Mapping[CampaignRequest, MessageState]:
        return {
            one: self.states[one.recipient_id]
            for one in requests
            if one.recipient_id in self.states
        }

    async def audience(self, _campaign: str, after: str | None, _limit: int) -> list[str]:
        index = 0 if after is None else [page[-1] for page in self.pages].index(after) + 1
        return self.pages[index] if index < len(self.pages) else []

    async def make_rows(self, _requests: Sequence[CampaignRequest], queue: str) -> None:
        assert queue == "campaign"

    async def launch(self, _queue: str, requests: Sequence[CampaignRequest], _opts: Any) -> None:
        self.launched += [one.recipient_id for one in requests]

    def database_away(self, error: Exception) -> None:
        self.away.append(error)

    def transport_down(self, _transport: str, _error: Exception) -> float | None:
        return None


async def run(
    post: Post,
    job: Job,
    signal: AbortSignal | None = None,
    halted: Callable[[], bool] = lambda: False,
) -> Ending:
    processor = ContractProcessor(CONTRACT, post, post, post, post.launch, halted=halted)
    return await processor(job, "token", signal or AbortSignal())


def many(count: int, name: str = "many") -> Job:
    return Job(name, {"c": 1, "rs": list(range(1, count + 1))})


def totals(ending: Ending) -> dict[str, Any]:
    assert isinstance(ending, Completed)
    assert isinstance(ending.value, dict)
    return {key: value for key, value in ending.value.items() if value}


async def test_one_mail_returns_what_the_app_expects() -> None:
    ending = await run(Post(), Job("one", {"c": 1, "r": 2}))
    assert ending == Completed({"ok": True, "id": "<m@x>", "how": "sent"})


@pytest.mark.parametrize(("name", "expected"), [("new", Deferred(-1)), ("report", Deferred(-2))])
async def test_what_is_not_ours_is_left_alone(name: str, expected: Ending) -> None:
    assert await run(Post(), Job(name, {})) == expected


async def test_what_nobody_serves_any_more_fails_for_good() -> None:
    ending = await run(Post(), Job("old", {}))
    assert isinstance(ending, Failed)
    assert not ending.retry


async def test_a_mail_that_is_not_in_the_app_yet_is_tried_again_as_node_would() -> None:
    post = Post()
    post.missing = {2}
    ending = await run(post, Job("one", {"c": 1, "r": 2}))
    assert isinstance(ending, Failed)
    assert (ending.retry, str(ending.error)) == (True, "missing: r: not there")
    assert isinstance(ending.error, MailNotSent)


async def test_a_server_that_is_away_spends_no_attempt() -> None:
    post = Post()
    post.down = DatabaseAway("gone")
    assert await run(post, Job("one", {"c": 1, "r": 2})) == HandedBack("database_away")
    assert await run(post, many(3)) == HandedBack("database_away")
    assert post.away == [post.down] * 2


async def test_a_list_is_served_by_few_at_a_time_and_says_how_far_it_is() -> None:
    post, job = Post(), many(10)
    assert totals(await run(post, job)) == {"outcome": "done", "total": 10, "sent": 10}
    assert sorted(post.delivered) == list(range(1, 11))
    assert post.most_under_way == 2
    assert job.progress == list(range(0, 101, 10))


async def test_a_list_may_count_and_return_in_the_app_s_own_words() -> None:
    job = many(2, "counted")
    assert await run(Post(), job) == Completed({"delivered": 2, "of": 2})
    assert job.progress[-1] == {"done": 2, "total": 2}


async def test_an_empty_list_is_done() -> None:
    assert totals(await run(Post(), many(0))) == {"outcome": "done"}


async def test_every_recipient_of_a_list_has_an_outcome_of_its_own() -> None:
    post = Post()
    post.answers = {
        2: outcomes.Skipped("unsubscribed"),
        3: outcomes.Rejected("rejected", "554"),
        4: outcomes.Failed("451", 5.0, exhausted=True),
        5: outcomes.InDoubt("lost", resend=False),
        6: PayloadError("data", "bad"),
    }
    post.missing = {7}
    expected = {"total": 8, "sent": 2, "skipped": 1, "failed": 4, "in_doubt": 1}
    assert totals(await run(post, many(8))) == {"outcome": "done"} | expected


async def test_a_list_comes_again_for_those_who_wait_and_only_for_them() -> None:
    post = Post()
    post.answers = {2: outcomes.Failed("451", 7.0, exhausted=False), 3: outcomes.Busy(3.0)}
    assert await run(post, many(4)) == Deferred(3000)
    post.states = dict.fromkeys((1, 4), MessageState.SENT) | {2: MessageState.SCHEDULED}
    post.answers, post.delivered = {}, []
    assert totals(await run(post, many(4))) == {"outcome": "done", "total": 4, "sent": 4}
    assert sorted(post.delivered) == [2, 3]


async def test_a_pause_is_met_once_and_not_by_everybody() -> None:
    post = Post()
    post.answers = dict.fromkeys(range(1, 601), outcomes.Deferred("campaign_paused", 600.0))
    assert await run(post, many(600)) == Deferred(600_000)
    assert len(post.delivered) <= 2


async def test_a_stop_hands_a_list_back_with_the_rest_untouched() -> None:
    post, signal = Post(), AbortSignal()

    def stop_at_five() -> None:
        if len(post.delivered) == 5:
            signal.abort(AbortReason.SHUTDOWN)

    post.after = stop_at_five
    assert isinstance(await run(post, many(600), signal), HandedBack)
    assert len(post.delivered) == 5


async def test_a_list_gives_way_as_soon_as_its_worker_shall_stop() -> None:
    post = Post()
    ending = await run(post, many(600), halted=lambda: len(post.delivered) >= 5)
    assert ending == HandedBack("interrupted")
    assert 5 <= len(post.delivered) <= 6


async def test_a_list_whose_last_mail_is_done_when_the_stop_comes_is_done() -> None:
    post = Post()
    ending = await run(post, many(5), halted=lambda: len(post.delivered) == 5)
    assert totals(ending) == {"outcome": "done", "total": 5, "sent": 5}


@pytest.mark.parametrize(
    ("error", "expected"),
    [(JobGone("7"), Completed), (RedisAway("gone"), HandedBack)],
)
async def test_progress_that_cannot_be_told_cuts_no_mail_off(
    error: Exception, expected: type
) -> None:
    post, job = Post(), many(4)
    job.error = error
    assert isinstance(await run(post, job), expected)
    assert post.under_way == 0


async def test_a_mistake_in_one_mail_lets_the_others_under_way_end() -> None:
    post = Post()
    post.answers = {1: RuntimeError("a mistake")}
    with pytest.raises(RuntimeError, match="a mistake"):
        await run(post, many(6))
    assert post.under_way == 0
    assert 2 in post.delivered


async def test_a_launch_goes_through_the_audience_page_by_page() -> None:
    post = Post()
    post.pages = [["1", "2"], ["3", "4"], ["5"]]
    post.missing = {4}
    ending = await run(post, Job("launch", {"c": 1}))
    assert ending == Completed({"outcome": "launched", "total": 4})
    assert post.launched == [1, 2, 3, 5]


async def test_an_audience_without_an_order_ends_all_the_same() -> None:
    post = Post()
    post.pages = [["1", "2"], ["2"]]
    post.pages.append(post.pages[1])
    ending = await run(post, Job("launch", {"c": 1}))
    assert isinstance(ending, Completed)


async def test_a_stop_hands_a_launch_back() -> None:
    post, signal = Post(), AbortSignal()
    post.pages = [["1"], ["2"]]
    signal.abort(AbortReason.SHUTDOWN)
    assert isinstance(await run(post, Job("launch", {"c": 1}), signal), HandedBack)

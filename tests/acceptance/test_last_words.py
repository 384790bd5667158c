"""What a worker says with its last line and its exit code, where a stop could not end well."""

from __future__ import annotations

import re
import signal

from campaign_worker.embedded.redis import RedisServer
from shutdown import ExitCode
from tests.acceptance.evidence import flawless
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Site, SiteMaker

FATES = ("finished", "handed back", "in doubt")
# A fault of the program while it works, at a moment that the test chooses.
FAILS_WHILE_IT_WORKS = """
import asyncio, signal
from campaign_worker import app

async def work(self, signals):
    fault = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, fault.set)
    await fault.wait()
    raise RuntimeError("nobody foresaw this")

app.App._work = work
"""


async def test_jobs_whose_end_could_not_be_written_are_abandoned_and_not_finished(
    make_site: SiteMaker, mortal_redis: RedisServer
) -> None:
    """Their mails are sent and their rows say so; Redis is to hear of it, and is frozen."""
    site = make_site(
        redis_url=mortal_redis.url,
        env={"LOCK_DURATION_MS": "1000", "STALLED_INTERVAL_MS": "500", "CONCURRENCY": "4"},
    )
    site.sink.hold()
    old = await site.ready("old", DRAIN_SECONDS="5")
    campaign = await site.campaign(4)
    await site.add(campaign)
    await site.sink.wait_at_dot(4)
    old.send(signal.SIGTERM)
    await old.says("stopping", in_flight=4)
    mortal_redis.freeze()
    site.sink.release()
    assert await old.ended(8) == ExitCode.WATCHDOG
    assert fates_of(old) == {"finished": 0, "handed back": 0, "in doubt": 0, "left": 4}
    mortal_redis.thaw()
    await site.ready("next")
    verdict = await site.finished(campaign, 20)
    assert (verdict.accepted, verdict.states) == (4, {"sent": 4})
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)


async def test_a_fault_of_the_program_still_stops_in_good_order_and_ends_with_70(
    site: Site,
) -> None:
    worker = await site.ready("worker", before=FAILS_WHILE_IT_WORKS)
    site.sink.hold()
    campaign = await site.campaign(3)
    await site.add(campaign)
    await site.sink.wait_at_dot(3)
    worker.send(signal.SIGUSR1)
    await worker.says("stopping", in_flight=3)
    site.sink.release()
    assert await worker.ended() == ExitCode.INTERNAL_ERROR
    assert worker.plain_lines()[-1] == "RuntimeError: nobody foresaw this"
    assert (worker.last_words["finished"], worker.last_words["abandoned"]) == (3, 0)
    assert await site.verdict(campaign) == flawless(3)


def fates_of(worker: WorkerProcess) -> dict[str, int]:
    """Read the last line: the plan's, or on a busy machine the watchdog's."""
    for words in worker.records("worker stopped"):
        fates = {name: words[name.replace(" ", "_")] for name in FATES}
        return fates | {"left": words["abandoned"]}
    numbers = [int(number) for number in re.findall(r"\d+", worker.plain_lines()[-1])]
    active, finished, handed_back, abandoned, in_doubt = numbers
    found = dict(zip(FATES, (finished, handed_back, in_doubt), strict=True))
    return found | {"left": active + abandoned}

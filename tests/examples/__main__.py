"""`make examples`: each app of examples/ with 2,000 mails, alone, beside its worker, and back.

Ends with one JSON object, by example and way; the exit code is 0 if nobody got a mail twice, nobody
was missed, and every row, count and return value of the apps is right. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.embedded.smtp_server import SmtpSink
from campaign_worker.storage.migrate import migrate
from tests.acceptance.site import Site
from tests.examples.example import EXAMPLES, Example
from tests.examples.office import Books, Office
from tests.examples.rounds import ROUNDS

LATENCY_MS = 20.0


def main() -> int:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(prog="examples", description=__doc__)
    parser.add_argument("--mails", type=int, default=2_000)
    parser.add_argument("--example", choices=EXAMPLES, action="append", help="only this one")
    parser.add_argument("--round", choices=ROUNDS, action="append", help="only this one")
    options = parser.parse_args()
    # aiosmtpd logs whole dialogues, with addresses.
    logging.getLogger("mail").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="examples-") as folder:
        # Postgres may run as another user, who has to pass.
        Path(folder).chmod(0o711)
        names = options.example or list(EXAMPLES)
        rounds = options.round or list(ROUNDS)
        found = asyncio.run(_all(names, rounds, options.mails, Path(folder)))
    told = {
        name: {
            way: dataclasses.asdict(books) | {"seconds": seconds} for way, books, seconds in ways
        }
        for name, ways in found.items()
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0 if all(books.flawless for ways in found.values() for _, books, _ in ways) else 1


async def _all(
    names: list[str], rounds: list[str], mails: int, folder: Path
) -> dict[str, list[tuple[str, Books, float]]]:
    found: dict[str, list[tuple[str, Books, float]]] = {}
    async with (
        RedisServer(folder / "redis") as redis,
        PostgresServer(folder / "postgres") as postgres,
    ):
        for name in names:
            for way in rounds:
                label = f"{name.replace('-', '_')}_{way}"
                url = await postgres.create_database(label)
                await migrate(url)
                began = time.monotonic()
                place = {"redis_url": redis.url, "database_url": url, "folder": folder / label}
                books = await _one(EXAMPLES[name], way, mails, place)
                seconds = round(time.monotonic() - began, 1)
                found.setdefault(name, []).append((way, books, seconds))
                sys.stderr.write(f"{name}, {way}: {seconds} s, {books}\n")
    return found


async def _one(example: Example, way: str, mails: int, place: dict[str, Any]) -> Books:
    async with SmtpSink(latency_ms=LATENCY_MS, keep_content=False) as sink:
        site = Site(**place, sink=sink, prefix=place["folder"].name)
        office = Office(site, example)
        try:
            await office.open()
            return await ROUNDS[way](office, mails)
        finally:
            await office.close()
            await site.close()


if __name__ == "__main__":
    sys.exit(main())

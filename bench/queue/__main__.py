"""The command line of the benchmark. Its last line of stdout is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from rich.console import Console

from bench.queue import latency, measure, report, targets
from bench.queue.contenders import NODE_MAJOR, Contender
from bench.queue.stand import stand
from tests.fixtures import node_packages


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options; without --idle, --latency and --memory, throughput is measured."""
    parser = argparse.ArgumentParser(prog="make bench-queue", description=__doc__)
    parser.add_argument("--jobs", type=_positive, default=20_000, help="jobs per run")
    parser.add_argument("--concurrency", type=_numbers, default=[1, 50, 200], metavar="1,50,200")
    parser.add_argument("--runs", type=_positive, default=3, help="runs of each, in turn")
    parser.add_argument(
        "--workers", type=_contenders, default=list(Contender), metavar="ours,node,package"
    )
    parser.add_argument("--throughput", action="store_true", help="also with one of the following")
    parser.add_argument("--idle", action="store_true", help="cost of our worker without jobs")
    parser.add_argument("--latency", action="store_true", help="how soon an idle worker has a job")
    parser.add_argument("--memory", action="store_true", help="memory beside many waiting jobs")
    parser.add_argument(
        "--waiting", type=_positive, default=200_000, help="jobs for --memory (1000000)"
    )
    parser.add_argument("--json", action="store_true", help="only the JSON line on stdout")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace) -> None:
    """Measure what was asked for and print it."""
    errors = Console(stderr=True, highlight=False)
    results: measure.Results = {}
    idle = memory = soon = None
    reached: list[targets.Target] = []
    async with stand() as redis:
        errors.print(await _setting(await redis.version(), options.workers))
        if options.throughput or not (options.idle or options.latency or options.memory):
            results = await measure.throughput(
                redis,
                contenders=options.workers,
                concurrencies=options.concurrency,
                jobs=options.jobs,
                runs=options.runs,
                say=errors.print,
            )
            reached += targets.of_throughput(results)
        if options.idle:
            idle = await measure.idle(redis)
            reached += targets.of_idle(idle)
        if options.latency:
            soon = await latency.latencies(redis)
            reached += targets.of_latencies(soon)
        if options.memory:
            memory = await measure.memory(redis, options.waiting)
            reached += targets.of_memory(memory)
    if not options.json:
        report.show(Console(highlight=False), results, reached)
    print(report.as_json(results, idle, memory, soon))


async def _setting(redis_version: str, workers: Sequence[Contender]) -> str:
    node = ""
    if Contender.NODE in workers:
        if reason := node_packages.why_not():
            raise SystemExit(f"{reason}; without it: --workers ours,package")
        # npm may have to fetch it first: not within a run.
        _, version = await asyncio.to_thread(node_packages.install, NODE_MAJOR)
        node = f", bullmq {version} in Node"
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    python = ".".join(map(str, sys.version_info[:3]))
    return f"Redis {redis_version}, Python {python}{node}; {os.cpu_count()} CPUs, load {load}"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _numbers(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _contenders(text: str) -> list[Contender]:
    return [Contender(part) for part in text.split(",")]


if __name__ == "__main__":
    asyncio.run(run(parse()))

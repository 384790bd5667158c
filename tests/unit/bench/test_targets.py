"""What counts as reached, and what the figures of several runs become."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bench.queue import report, targets
from bench.queue.__main__ import parse
from bench.queue.contenders import Contender
from bench.queue.measure import Cost, Idle, Memory, Results


def verdicts(results: Results) -> dict[str, bool]:
    return {target.what: target.met for target in targets.of_throughput(results)}


def compared(*, ours: Cost, node: Cost, package: Cost, concurrency: int) -> dict[str, bool]:
    costs = {Contender.OURS: ours, Contender.NODE: node, Contender.PACKAGE: package}
    return verdicts({contender: {concurrency: cost} for contender, cost in costs.items()})


def test_figures_at_their_bounds_meet_every_target() -> None:
    met = compared(
        ours=Cost(8000, 20, 30),
        node=Cost(8000, 40, 30),
        package=Cost(1000, 900, 90),
        concurrency=50,
    )
    assert met == {
        "jobs/s at 50, times Node's": True,
        "CPU per job at 50, times Node's": True,
        "Redis CPU at 50, times Node's": True,
        "jobs/s at 50, times the package's": True,
    }


def test_figures_beyond_their_bounds_miss_every_target() -> None:
    met = compared(
        ours=Cost(7999, 21, 31),
        node=Cost(8000, 40, 30),
        package=Cost(1000, 900, 90),
        concurrency=50,
    )
    assert set(met.values()) == {False}
    assert len(met) == 4


@pytest.mark.parametrize(("pace", "met"), [(1199, False), (1200, True)])
def test_one_job_at_a_time_must_be_faster_than_node(pace: int, met: bool) -> None:
    costs = {Contender.OURS: {1: Cost(pace, 1, 1)}, Contender.NODE: {1: Cost(1000, 1, 1)}}
    assert verdicts(costs)["jobs/s at 1, times Node's"] is met


def test_nothing_is_judged_that_was_not_measured() -> None:
    assert verdicts({Contender.OURS: {50: Cost(1, 1, 1)}}) == {}
    assert verdicts({Contender.NODE: {50: Cost(1, 1, 1)}}) == {}


def test_idling_and_memory_have_bounds_too() -> None:
    assert [target.met for target in targets.of_idle(Idle(4.9, 0.51))] == [True, False]
    assert [target.met for target in targets.of_memory(Memory(10, 100, 105))] == [True]
    assert [target.met for target in targets.of_memory(Memory(10, 100, 106))] == [False]


def test_runs_become_the_median_of_each_figure_by_itself() -> None:
    runs = [Cost(1, 30, 200), Cost(2, 10, 100), Cost(9, 20, 300)]
    assert Cost.median(runs) == Cost(2, 20, 200)


def test_the_table_shows_ours_divided_by_theirs() -> None:
    results = {
        Contender.OURS: {50: Cost(3000, 30, 10)},
        Contender.NODE: {50: Cost(2000, 120, 40)},
    }
    written = io.StringIO()
    report.show(Console(file=written, width=120), results, list(targets.of_throughput(results)))
    [row] = [line for line in written.getvalue().splitlines() if "node" in line]
    assert [cell.strip() for cell in row.split("│")[2:-1]] == [
        *("node", "2,000", "1.50", "120", "0.25", "40", "0.25")
    ]
    assert "missed" not in written.getvalue()


def test_the_json_line_is_keyed_by_worker_and_concurrency() -> None:
    line = report.as_json({Contender.OURS: {1: Cost(5000.126, 70, 20)}}, Idle(1.2, 0.02), None)
    assert json.loads(line) == {
        "ours": {"1": {"jobs_per_s": 5000.13, "cpu_us_per_job": 70, "redis_us_per_job": 20}},
        "idle": {"commands_per_s": 1.2, "cpu_percent": 0.02},
    }


def test_the_options_default_to_the_measurement_that_is_published() -> None:
    options = parse([])
    assert (options.jobs, options.concurrency, options.runs) == (20_000, [1, 50, 200], 3)
    assert options.workers == list(Contender)


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--workers", "deno"]])
def test_an_option_that_makes_no_sense_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert arguments[0] in capsys.readouterr().err

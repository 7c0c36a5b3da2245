"""Rounds of a benchmark: cases in processes of their own, in turns, and their medians published.

Contract: a machine's speed drifts while it is measured. So no case is measured alone: the cases
alternate, a ratio is taken within each round, and what is published is the median over rounds
with the smallest and the largest beside it.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable

from lessons_lib.evaluation.records import Metric, Metrics
from lessons_lib.hardware import choose_precision
from lessons_lib.paths import PUBLISHED
from lessons_lib.report.results import collect_results, write_results

THREADS = "2"
Figures = dict[str, float]


def run_apart(title: str, *command: str, threads: str = THREADS) -> Figures:
    """One case's figures, printed, from a process of its own: so its peak memory is its own.
    The command, a script with its arguments, prints them last, as JSON."""
    variables = os.environ | {"OMP_NUM_THREADS": threads}
    command = [sys.executable, *command]
    output = subprocess.run(command, env=variables, capture_output=True, text=True)
    if output.returncode:
        sys.exit(output.stderr)
    figures = json.loads(output.stdout.splitlines()[-1])
    print(title, " ".join(f"{key} {value:,.4g}" for key, value in figures.items()), flush=True)
    return figures


def run_rounds(
    cases: Iterable[str], measure: Callable[[str], Figures], rounds: int
) -> dict[str, list[Figures]]:
    """The figures of every case in every round; the cases of a round run one after the other."""
    cases = list(cases)
    figures = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            figures[case].append(measure(case))
    return figures


def summarise_rounds(values: list[float]) -> Metric:
    """The median of the rounds, with the smallest and the largest; n is the number of rounds."""
    return Metric(
        float(statistics.median(values)),
        float(min(values)),
        float(max(values)),
        len(values),
        "range over rounds",
    )


def tabulate_rounds(
    figures: dict[str, list[Figures]], *, plain: str, speed: str, subset: str
) -> Metrics:
    """Every figure of every case; and "times_plain", how many times as fast a case was as the case
    `plain` in the same round, by the figure `speed`."""
    metrics = Metrics()
    for case, rounds in figures.items():
        for name in rounds[0]:
            values = [one[name] for one in rounds]
            metrics.add(case, name, summarise_rounds(values), subset=subset)
        pairs = zip(rounds, figures[plain], strict=True)
        ratios = [one[speed] / other[speed] for one, other in pairs]
        metrics.add(case, "times_plain", summarise_rounds(ratios), subset=subset)
        print(f"{subset} {case}: {metrics.find(case, 'times_plain', subset=subset)} × {plain}")
    return metrics


def publish(
    name: str, metrics: Metrics, headline: tuple, *, models: dict[str, str], data: list[str]
) -> None:
    """Writes `data/results/bench/<name>_<number format>.json`: a file per kind of CPU, since one
    with fast bf16 and one without are two stories."""
    results = collect_results(
        f"{name}_{choose_precision().dtype}",
        "bench",
        seeds=[0],
        models=models,
        data=data,
        metrics=metrics,
        headline=headline,
    )
    print(write_results(results, PUBLISHED))

"""One JSON a lesson: the numbers that pages, README and prose speak of.

Contract: notebooks write into `build/results/`; only `make notebooks` and `make study` publish to
`data/results/`, so nobody's run overwrites what the README claims. It computes no metric.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from lessons_lib.errors import CourseError
from lessons_lib.evaluation.intervals import Metric
from lessons_lib.hardware import describe_machine, peak_memory_mb
from lessons_lib.paths import BUILT, PUBLISHED
from lessons_lib.report.provenance import read_commit

VERSIONS = ("torch", "transformers", "peft", "datasets", "accelerate", "scikit-learn")


class ResultsError(CourseError):
    """Results that were asked for have not been measured."""


@dataclass(frozen=True)
class Results:
    """What one lesson, or one study, measured. Metric names are `<system>.<metric>`; `seconds` is
    wall time, `peak_rss_mb` the process's peak resident memory in 10⁶ bytes, `headline` the metric
    before and the metric after, `commits` those at which it was measured, "+" behind one whose
    files had been changed."""

    lesson: str
    profile: str
    seeds: list[int]
    metrics: dict[str, Metric]
    headline: tuple[str, str]
    seconds: float
    peak_rss_mb: float
    machine: dict[str, str | int]
    versions: dict[str, str]
    commits: list[str] = field(default_factory=list)


def collect_results(
    lesson: str,
    profile: str,
    seeds: list[int],
    metrics: dict[str, Metric],
    headline: tuple[str, str],
) -> Results:
    """The results of this process: adds its age, peak memory, machine and versions."""
    return Results(
        lesson,
        profile,
        seeds,
        metrics,
        headline,
        round(time.time() - psutil.Process().create_time(), 1),
        round(peak_memory_mb(), 1),
        describe_machine(),
        {name: version(name) for name in VERSIONS},
        [commit] if (commit := read_commit()) else [],
    )


def write_results(results: Results, folder: Path = BUILT) -> Path:
    """Writes `<folder>/<profile>/<lesson>.json` and returns its path."""
    path = folder / results.profile / f"{results.lesson}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def read_results(lesson: str, profile: str, folder: Path = PUBLISHED) -> Results:
    """Reads what was written; profile may be "study". Raises ResultsError where it is missing."""
    path = folder / profile / f"{lesson}.json"
    if not path.is_file():
        command = "study" if profile == "study" else "course"
        raise ResultsError(
            "there are no such results.",
            where=str(path),
            remedy=f"make {command} LESSON={lesson[:2]}",
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metrics"] = {name: Metric(**metric) for name, metric in content["metrics"].items()}
    return Results(**content)


def find_results(lesson: str, profile: str) -> Results | None:
    """As `read_results`, or None where nothing has been published yet."""
    try:
        return read_results(lesson, profile)
    except ResultsError:
        return None


def read_predictions(lesson: str) -> dict[str, np.ndarray]:
    """A study's kept probabilities, "<split>.<arm>" (seeds, rows, classes), and "labels.<split>"
    (rows).
    """
    with np.load(PUBLISHED / "study" / f"{lesson}.predictions.npz") as kept:
        return dict(kept)


def tabulate_metrics(results: Results, metric: str = "accuracy") -> pd.DataFrame:
    """Every system's `metric` with its interval, best first."""
    rows = {
        name.removesuffix(f".{metric}"): asdict(value)
        for name, value in results.metrics.items()
        if name.endswith(f".{metric}")
    }
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("value", ascending=False)

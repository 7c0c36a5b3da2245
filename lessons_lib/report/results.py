"""One JSON per lesson: the numbers that pages, README and prose speak of.

Contract: notebooks write into `build/results/`; only `make notebooks` and `make study` publish to
`data/results/`, so nobody's run overwrites what the README claims. It computes no metric.
"""

import json
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from lessons_lib.errors import CourseError
from lessons_lib.evaluation.records import Metric, MetricName, Metrics
from lessons_lib.hardware import describe_machine, describe_peak_memory, peak_memory_mb
from lessons_lib.paths import BUILT, PUBLISHED
from lessons_lib.report.provenance import read_commit

ABOUT = "about."  # in a file of predictions: description, seeds, costs, machine of an arm
VERSIONS = ("torch", "transformers", "peft", "datasets", "accelerate", "scikit-learn")


class ResultsError(CourseError):
    """Results that were asked for have not been measured."""


@dataclass(frozen=True)
class Results:
    """What one lesson, study or benchmark measured, and on what.

    models: the models' names by role, such as {"encoder": "packaged:all-MiniLM-L6-v2"}. data: the
    names of the data sets and files. headline: the metric before and the metric after. seconds:
    wall time. peak_mb: peak memory in 10⁶ bytes; peak_of: of what, see `describe_peak_memory`.
    commits: those at which it was measured, "+" behind one whose files had been changed.
    """

    lesson: str
    profile: str
    seeds: list[int]
    models: dict[str, str]
    data: list[str]
    metrics: Metrics
    headline: tuple[MetricName, MetricName]
    seconds: float
    peak_mb: float
    peak_of: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    commits: list[str] = field(default_factory=list)

    def find(self, system: str, metric: str, *, subset: str = "", minus: str = "") -> Metric:
        """One of the metrics, as in `Metrics.find`."""
        return self.metrics.find(system, metric, subset=subset, minus=minus)

    def find_headline(self) -> tuple[Metric, Metric]:
        """The metric before, and the metric after."""
        before, after = self.headline
        return self.metrics[before], self.metrics[after]


def collect_results(
    lesson: str,
    profile: str,
    *,
    seeds: list[int],
    models: dict[str, str],
    data: list[str],
    metrics: Metrics,
    headline: tuple[tuple[str, ...], tuple[str, ...]],
) -> Results:
    """The results of this process: adds its age, peak memory, machine, versions and commit.

    headline: two names, as tuples of what `MetricName` has: (system, metric, subset, minus), of
    which the last two may be left out. Raises KeyError where one of them was not measured.
    """
    commit = read_commit()
    results = Results(
        lesson=lesson,
        profile=profile,
        seeds=seeds,
        models=models,
        data=data,
        metrics=metrics,
        headline=(MetricName(*headline[0]), MetricName(*headline[1])),
        seconds=round(time.time() - psutil.Process().create_time(), 1),
        peak_mb=round(peak_memory_mb(), 1),
        peak_of=describe_peak_memory(),
        machine=describe_machine(),
        versions={name: version(name) for name in VERSIONS},
        commits=[commit] if commit else [],
    )
    results.find_headline()
    return results


def write_results(results: Results, folder: Path = BUILT) -> Path:
    """Writes `<folder>/<profile>/<lesson>.json`, a line per metric, and returns its path."""
    path = folder / results.profile / f"{results.lesson}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: getattr(results, name) for name in Results.__dataclass_fields__}
    records = sorted(results.metrics.records(), key=lambda record: list(record.values())[:4])
    lines = ",\n".join("  " + json.dumps(record, ensure_ascii=False) for record in records)
    content["headline"] = [name._asdict() for name in results.headline]
    content["metrics"] = []
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    text = text.replace('"metrics": []', f'"metrics": [\n{lines}\n ]')
    path.write_text(text + "\n", encoding="utf-8")
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
    content["metrics"] = Metrics.from_records(content["metrics"])
    content["headline"] = tuple(MetricName(**name) for name in content["headline"])
    return Results(**content)


def find_results(lesson: str, profile: str) -> Results | None:
    """As `read_results`, or None where nothing has been published yet."""
    try:
        return read_results(lesson, profile)
    except ResultsError:
        return None


def locate_predictions(lesson: str) -> Path:
    """Where a study's kept predictions stand; there may be none yet."""
    return PUBLISHED / "study" / f"{lesson}.predictions.npz"


def read_predictions(lesson: str) -> dict[str, np.ndarray]:
    """A study's kept probabilities, "<split>.<arm>" (seeds, rows, classes), and "labels.<split>"
    (rows).
    """
    with np.load(locate_predictions(lesson)) as kept:
        return {name: array for name, array in kept.items() if not name.startswith(ABOUT)}


def read_machine(lesson: str, arm: str) -> dict[str, str | int]:
    """The machine that an arm of a study was run on: a study's arms need not share one."""
    with np.load(locate_predictions(lesson)) as kept:
        return json.loads(str(kept[f"{ABOUT}{arm}"]))["machine"]


def tabulate_metrics(
    results: Results, metric: str = "accuracy", *, subset: str = ""
) -> pd.DataFrame:
    """Every system's `metric` on `subset` with its interval, best first; one row per system."""
    table = _choose_metrics(results, metric, subset)
    values = table[table["minus"] == ""]
    return values.set_index("system").sort_values("value", ascending=False)


def tabulate_differences(
    results: Results, metric: str = "accuracy", *, subset: str = ""
) -> pd.DataFrame:
    """Every paired difference in `metric` on `subset`, one row per pair, named "a − b"."""
    table = _choose_metrics(results, metric, subset)
    differences = table[table["minus"] != ""]
    return differences.set_index(differences["system"] + " − " + differences["minus"])


def _choose_metrics(results: Results, metric: str, subset: str) -> pd.DataFrame:
    table = results.metrics.table()
    return table[(table["metric"] == metric) & (table["subset"] == subset)]

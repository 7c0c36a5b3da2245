"""Measured numbers by what they are about: system, metric, subset, and what was subtracted.

Contract: nothing is read out of a name. Whoever needs "accuracy on movie reviews of the encoder
minus TF-IDF" asks for those four things.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import pandas as pd

from lessons_lib.errors import CourseError

SHOWN_NAMES = 8  # in an error; more are counted
IntervalKind = Literal["bootstrap", "wilson", "range over seeds", "range over rounds", "none"]


class MetricError(CourseError):
    """A number was asked for that nobody has measured."""


@dataclass(frozen=True)
class Metric:
    """A measured number with its interval; `n` is the number of rows it rests on.

    interval: "bootstrap" and "wilson" are 95 % intervals; "range over seeds" and "range over
    rounds" are the smallest and the largest of a few runs, no confidence interval; "none" a number
    measured once, whose `low` and `high` are its value.
    """

    value: float
    low: float
    high: float
    n: int
    interval: IntervalKind = "bootstrap"

    def __str__(self) -> str:
        digits = 3 if abs(self.value) < 10 else 0
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def measured_once(value: float, n: int = 1) -> Metric:
    """A number without an interval, such as a speed; `n` is what it was measured on."""
    return Metric(float(value), float(value), float(value), n, "none")


class MetricName(NamedTuple):
    """What a number is about: a system's metric, on a subset of the rows ("" for all of them), and
    the system whose number was subtracted, if one was ("" if none)."""

    system: str
    metric: str
    subset: str = ""
    minus: str = ""

    def __str__(self) -> str:
        rival = f" − {self.minus}" if self.minus else ""
        subset = f", {self.subset}" if self.subset else ""
        return f"{self.system}{rival}: {self.metric}{subset}"


class Metrics(dict[MetricName, Metric]):
    """Numbers by name.

    >>> metrics = Metrics()
    >>> metrics.add("tfidf", "accuracy", Metric(0.8, 0.78, 0.82, 1500, "wilson"))
    >>> metrics.add("bert", "accuracy", Metric(0.05, 0.03, 0.07, 1500), minus="tfidf")
    >>> print(metrics.find("bert", "accuracy", minus="tfidf"))
    0.050 [0.030, 0.070]
    """

    def add(
        self, system: str, metric: str, value: Metric, *, subset: str = "", minus: str = ""
    ) -> None:
        """Adds a number. Raises ValueError where there is one of that name."""
        name = MetricName(system, metric, subset, minus)
        if name in self:
            raise ValueError(f"{name} was measured twice.")
        self[name] = value

    def find(self, system: str, metric: str, *, subset: str = "", minus: str = "") -> Metric:
        """The number of that name. Raises MetricError, which lists what there is of that system or
        that metric."""
        name = MetricName(system, metric, subset, minus)
        if name not in self:
            near = [str(other) for other in self if other.system == system]
            near = near or [str(other) for other in self if other.metric == metric]
            listed = "; ".join(near[:SHOWN_NAMES])
            if len(near) > SHOWN_NAMES:
                listed += f"; and {len(near) - SHOWN_NAMES} more"
            raise MetricError(f"there is no {name}.", remedy=f"one of {listed or 'none at all'}.")
        return self[name]

    def table(self) -> pd.DataFrame:
        """One row per number: system, metric, subset, minus, value, low, high, n, interval."""
        columns = [*MetricName._fields, *Metric.__dataclass_fields__]
        return pd.DataFrame(self.records(), columns=columns)

    def records(self) -> Iterator[dict[str, str | float | int]]:
        """The rows of `table`."""
        for name, metric in self.items():
            yield {**name._asdict(), **asdict(metric)}

    @classmethod
    def from_records(cls, records: list[dict]) -> "Metrics":
        """The metrics whose `records` these are."""
        metrics = cls()
        for record in records:
            values = dict(record)
            name = MetricName(*(values.pop(field) for field in MetricName._fields))
            metrics[name] = Metric(**values)
        return metrics

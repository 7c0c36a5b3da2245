"""Intervals and paired tests.

Contract: functions take arrays, load nothing and run no model. Every interval is a 95 % interval,
except the one of `seed_range`; docstrings say what is resampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from lessons_lib.evaluation.records import Metric

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class PairedComparison:
    """Accuracy of A minus accuracy of B on the same rows.

    only_a, only_b: number of rows that A or B alone gets right. p_value: McNemar's exact test of
    these two counts; None for several seeds.
    """

    difference: Metric
    only_a: int
    only_b: int
    p_value: float | None


def wilson_interval(correct: np.ndarray) -> Metric:
    """The share of right answers with Wilson's interval. correct: True or False (rows).

    >>> print(wilson_interval([True] * 85 + [False] * 15))
    0.850 [0.767, 0.907]
    """
    correct = np.asarray(correct, dtype=bool)
    test = binomtest(int(correct.sum()), len(correct))
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    share = float(correct.mean())
    return Metric(share, interval.low, interval.high, len(correct), "wilson")


def bootstrap_interval(values: np.ndarray, groups: np.ndarray | None = None) -> Metric:
    """The mean of `values`, (rows) or (seeds, rows), with a bootstrap interval.

    Rows are resampled, and seeds if there are several: the interval covers another draw of test
    rows, and another training run. groups: a group per row (rows), such as a sentence's article;
    rows of one group are drawn together.
    """
    values = np.atleast_2d(np.asarray(values, dtype=float))
    draws = _draw_means(values, *_resample(values.shape, groups))
    return _find_interval(values.mean(), draws, values.shape[1])


def bootstrap_difference(
    a: np.ndarray,
    b: np.ndarray,
    a_groups: np.ndarray | None = None,
    b_groups: np.ndarray | None = None,
) -> Metric:
    """The mean of `a` minus the mean of `b`, which were measured on different rows of the same
    runs, (rows) or (seeds, rows), with a bootstrap interval; `n` counts the rows of `a`.

    Both sets of rows are resampled, each by its groups, and seeds are drawn for both together.
    """
    a = np.atleast_2d(np.asarray(a, dtype=float))
    b = np.atleast_2d(np.asarray(b, dtype=float))
    seed_counts, a_counts = _resample(a.shape, a_groups)
    _, b_counts = _resample(b.shape, b_groups, seed=1)
    draws = _draw_means(a, seed_counts, a_counts) - _draw_means(b, seed_counts, b_counts)
    return _find_interval(a.mean() - b.mean(), draws, a.shape[1])


def measure_share(correct: np.ndarray, groups: np.ndarray | None = None) -> Metric:
    """The share of right answers, (rows) or (seeds, rows), with an interval as in
    `bootstrap_interval`; by Wilson's formula, over groups, where all answers are alike: resampling
    them would claim certainty.

    >>> print(measure_share(np.ones(12, dtype=bool)))
    1.000 [0.758, 1.000]
    """
    correct = np.atleast_2d(np.asarray(correct, dtype=bool))
    if correct.mean() not in (0, 1):
        return bootstrap_interval(correct, groups)
    rows = correct.shape[1] if groups is None else len(np.unique(groups))
    return replace(wilson_interval(np.full(rows, correct.flat[0])), n=correct.shape[1])


def measure_mean(values: np.ndarray, groups: np.ndarray | None = None) -> Metric:
    """The mean of what every row counts, (rows) or (seeds, rows), with its interval: that of
    `measure_share` where rows are True or False, else that of `bootstrap_interval`.
    """
    if np.asarray(values).dtype == bool:
        return measure_share(values, groups)
    return bootstrap_interval(values, groups)


def bootstrap_macro_f1(
    labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None = None
) -> Metric:
    """Macro-F1 with an interval that resamples as in `bootstrap_interval`.

    labels: class numbers (rows). predicted: class numbers, (rows) or (seeds, rows).
    """
    predicted = np.atleast_2d(predicted)
    classes = int(max(labels.max(), predicted.max())) + 1
    # one-hot: each row's cell of the confusion table
    cells = np.eye(classes**2)[labels.astype(int) * classes + predicted]
    seed_counts, row_counts = _resample(predicted.shape, groups)
    # the first of the resamples is the sample itself
    row_counts = np.concatenate([np.ones((1, len(labels))), row_counts])
    tables = np.einsum("rn,snk->rsk", row_counts, cells, optimize=True)
    tables = tables.reshape(len(tables), -1, classes, classes)
    scores = 2 * tables.diagonal(axis1=2, axis2=3) / np.maximum(1, tables.sum(2) + tables.sum(3))
    draws = (scores[1:].mean(-1) * seed_counts).sum(1) / len(predicted)
    return _find_interval(scores[0].mean(), draws, len(labels))


def _resample(
    shape: tuple[int, int], groups: np.ndarray | None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed (resamples, seeds) and each row (resamples, rows) is drawn."""
    random = np.random.default_rng(seed)
    seeds, rows = shape
    groups = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = groups.max() + 1
    seed_counts = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    return seed_counts, random.multinomial(count, np.full(count, 1 / count), RESAMPLES)[:, groups]


def _draw_means(values: np.ndarray, seed_counts: np.ndarray, row_counts: np.ndarray) -> np.ndarray:
    """The mean of `values` (seeds, rows) in every resample."""
    sums = np.einsum("rs,sn,rn->r", seed_counts, values, row_counts, optimize=True)
    return sums / (row_counts.sum(1) * len(values))


def _find_interval(value: float, draws: np.ndarray, rows: int) -> Metric:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Metric(float(value), float(low), float(high), rows, "bootstrap")


def seed_range(values: Sequence[float], n: int) -> Metric:
    """The mean, smallest and largest of one value per seed; no confidence interval.

    n: number of rows behind each value.
    """
    low = min(values)
    high = max(values)
    mean = float(np.clip(np.mean(values), low, high))  # rounding may leave the range
    return Metric(mean, low, high, n, "range over seeds")


def compare_paired(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None
) -> PairedComparison:
    """Compares two systems on the same rows, by whether each answers them correctly.

    a, b: True or False, (rows) or (seeds, rows). groups: as in `bootstrap_interval`. Raises
    ValueError for arrays of different shapes.

    >>> pair = compare_paired(np.array([True] * 8 + [False] * 2), np.array([False] * 10))
    >>> pair.only_a, pair.only_b, round(pair.p_value, 4)
    (8, 0, 0.0078)
    """
    a = np.atleast_2d(a).astype(bool)
    b = np.atleast_2d(b).astype(bool)
    if a.shape != b.shape:
        raise ValueError(f"The two systems have different rows: {a.shape} against {b.shape}.")
    only_a = int((a & ~b).sum())
    only_b = int((b & ~a).sum())
    differences = a.astype(float) - b.astype(float)
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    p_value = float(p_value) if len(a) == 1 else None
    return PairedComparison(bootstrap_interval(differences, groups=groups), only_a, only_b, p_value)


def tabulate_pairs(ours: str, pairs: dict[str, PairedComparison]) -> pd.DataFrame:
    """A table with one row per rival of the system `ours`.

    Columns: the difference in percentage points with its interval, the numbers of rows that one
    system alone gets right, and McNemar's p. pairs: comparisons of one seed by the rival's name.
    """
    rows = {
        f"{ours} − {rival}": {
            "difference": f"{100 * pair.difference.value:+.1f} points",
            "from": f"{100 * pair.difference.low:+.1f}",
            "to": f"{100 * pair.difference.high:+.1f}",
            f"{ours} alone right": pair.only_a,
            "other alone right": pair.only_b,
            "p (McNemar)": f"{pair.p_value:.1e}",
        }
        for rival, pair in pairs.items()
    }
    return pd.DataFrame(rows).T

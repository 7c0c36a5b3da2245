"""Intervals and paired tests.

Contract: works on arrays of labels and predictions; every interval is 95 % and says what it
resamples, but for `seed_range`, which says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from lessons_lib.evaluation.records import Metric

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class PairedComparison:
    """Accuracy of A minus accuracy of B on the same rows. `only_a` counts rows that A alone gets
    right; `p_value` is McNemar's exact test of the two counts (for one seed; None for several)."""

    difference: Metric
    only_a: int
    only_b: int
    p_value: float | None


def wilson_interval(correct: np.ndarray) -> Metric:
    """A share of right answers with Wilson's interval, from one True or False per row.

    >>> print(wilson_interval([True] * 85 + [False] * 15))
    0.850 [0.767, 0.907]
    """
    correct = np.asarray(correct, dtype=bool)
    test = binomtest(int(correct.sum()), len(correct))
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    share = float(correct.mean())
    return Metric(share, interval.low, interval.high, len(correct), "wilson")


def bootstrap_interval(values: np.ndarray, groups: np.ndarray | None = None) -> Metric:
    """The mean of `values`, (rows) or (seeds, rows), with a bootstrap interval that resamples rows
    and, where there are several, seeds: it covers another draw of test rows, and another training
    run. Rows of one group (rows), such as an article's sentences, are drawn together."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    seed_counts, row_counts = _resample(values.shape, groups)
    means = np.einsum("rs,sn,rn->r", seed_counts, values, row_counts, optimize=True)
    return _find_interval(values.mean(), means / (row_counts.sum(1) * len(values)), values.shape[1])


def bootstrap_macro_f1(
    labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None = None
) -> Metric:
    """Macro-F1 of predicted classes, (rows) or (seeds, rows), with an interval as
    `bootstrap_interval`'s.
    """
    predicted = np.atleast_2d(predicted)
    classes = int(max(labels.max(), predicted.max())) + 1
    # each row's in the confusion table
    cells = np.eye(classes**2)[labels.astype(int) * classes + predicted]
    seed_counts, row_counts = _resample(predicted.shape, groups)
    # first the rows as they are
    row_counts = np.concatenate([np.ones((1, len(labels))), row_counts])
    tables = np.einsum("rn,snk->rsk", row_counts, cells, optimize=True)
    tables = tables.reshape(len(tables), -1, classes, classes)
    scores = 2 * tables.diagonal(axis1=2, axis2=3) / np.maximum(1, tables.sum(2) + tables.sum(3))
    draws = (scores[1:].mean(-1) * seed_counts).sum(1) / len(predicted)
    return _find_interval(scores[0].mean(), draws, len(labels))


def _resample(shape: tuple[int, int], groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed (resamples, seeds) and each row (resamples, rows) is drawn."""
    random = np.random.default_rng(0)
    seeds, rows = shape
    groups = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = groups.max() + 1
    seed_counts = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    return seed_counts, random.multinomial(count, np.full(count, 1 / count), RESAMPLES)[:, groups]


def _find_interval(value: float, draws: np.ndarray, rows: int) -> Metric:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Metric(float(value), float(low), float(high), rows, "bootstrap")


def seed_range(values: Sequence[float], n: int) -> Metric:
    """Mean, smallest and largest of one value per seed; `n` is the number of rows behind each."""
    low = min(values)
    high = max(values)
    mean = float(np.clip(np.mean(values), low, high))  # rounding may leave the range
    return Metric(mean, low, high, n, "range over seeds")


def compare_paired(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None
) -> PairedComparison:
    """Compares two systems on the same rows: True or False by row, or by (seed, row); `groups` as
    in `bootstrap_interval`."""
    a = np.atleast_2d(a).astype(bool)
    b = np.atleast_2d(b).astype(bool)
    if a.shape != b.shape:
        raise ValueError(f"The two systems were asked different rows: {a.shape} against {b.shape}.")
    only_a = int((a & ~b).sum())
    only_b = int((b & ~a).sum())
    differences = a.astype(float) - b.astype(float)
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    p_value = float(p_value) if len(a) == 1 else None
    return PairedComparison(bootstrap_interval(differences, groups=groups), only_a, only_b, p_value)


def tabulate_pairs(ours: str, pairs: dict[str, PairedComparison]) -> pd.DataFrame:
    """One row per rival of system `ours`: the difference in points with its interval, the rows that
    one alone gets right, McNemar's p (each comparison of one seed)."""
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

"""Metrics, intervals and paired tests for classifiers.

Contract: works on arrays of labels and predictions and knows nothing of Trainer; every interval is 95 %
and says what it resamples; nothing here opens a network connection. It does not draw figures.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import datasets
import evaluate
import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support
from torch import nn

from lessons_lib.data import pad_batch
from lessons_lib.machine import choose_precision
from lessons_lib.models import load_classifier

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Metric:
    """A measured number with its 95 % interval; `n` is the number of rows it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        digits = 3 if abs(self.value) < 10 else 0
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class PairedComparison:
    """Accuracy of A minus accuracy of B on the same rows. `only_a` counts rows that A alone gets right;
    `p_value` is McNemar's exact test of the two counts (for one seed; None for several)."""

    difference: Metric
    only_a: int
    only_b: int
    p_value: float | None


class ClassificationMetrics(evaluate.Metric):
    """Accuracy, and macro-averaged precision, recall and F1, as an `evaluate` metric.

    `evaluate.load("accuracy")` fetches a script from the Hub; a Metric defined here needs no network.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
        )
        return evaluate.MetricInfo(
            description="accuracy and macro precision, recall, F1 (scikit-learn)",
            citation="",
            inputs_description="integer class numbers",
            features=features,
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, average="macro", zero_division=0
        )
        accuracy = accuracy_score(references, predictions)
        return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def predict(model: nn.Module, rows: Dataset, *, pad_id: int = 0, batch_size: int = 64) -> np.ndarray:
    """Class probabilities (rows, classes) of tokenized rows, in the order of the rows."""
    return _run_model(
        model, rows, pad_id, batch_size, lambda output, mask: output.logits.double().softmax(-1)
    )


def embed(encoder: nn.Module, rows: Dataset, *, pad_id: int = 0, batch_size: int = 64) -> np.ndarray:
    """Mean of the encoder's last states over real tokens (rows, width), in the order of the rows."""

    def read_mean(output: object, mask: torch.Tensor) -> torch.Tensor:
        """The mean of a batch's states over its real tokens (rows, width)."""
        states = output.last_hidden_state.float() * mask[..., None]
        return states.sum(1) / mask.sum(1, keepdim=True)

    return _run_model(encoder, rows, pad_id, batch_size, read_mean)


class Embedder:
    """The encoder of that name (see `load_classifier`), kept in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        model, self.tokenizer = load_classifier(name, seed=0)
        self.encoder = model.base_model

    def embed(self, texts: list[str], max_tokens: int = 256) -> np.ndarray:
        """Unit vectors (texts, width): the mean of each text's last states, so that products are cosines."""
        ids = self.tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        rows = Dataset.from_dict({"input_ids": ids})
        vectors = embed(self.encoder, rows, pad_id=self.tokenizer.pad_token_id, batch_size=32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@torch.inference_mode()
def _run_model(model: nn.Module, rows: Dataset, pad_id: int, batch_size: int, read: Callable) -> np.ndarray:
    """`read(output, mask)` of every row. Rows of like length share a batch; the order is put back."""
    model.eval()
    ids = list(rows["input_ids"])
    order = np.argsort([len(row) for row in ids], kind="stable")
    device, precision = next(model.parameters()).device, choose_precision()
    parts = []
    for start in range(0, len(order), batch_size):
        batch = pad_batch([{"input_ids": ids[i]} for i in order[start : start + batch_size]], pad_id)
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, precision.torch_dtype, enabled=precision.dtype == "bfloat16"):
            output = model(**batch)
        parts.append(read(output, batch["attention_mask"]).cpu().numpy())
    result = np.concatenate(parts)
    return result[np.argsort(order)]


def score_classifier(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, macro precision, recall, F1, and the mean log loss, from probabilities (rows, classes)."""
    scores = ClassificationMetrics().compute(predictions=probabilities.argmax(1), references=labels)
    loss = log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1]))
    return {**scores, "loss": float(loss)}


def normalize_answer(text: str) -> list[str]:
    """The words of a text without case, punctuation and articles; two answers with equal ones match exactly
    (Rajpurkar et al. 2016)."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the")]


def score_token_f1(answer: str, reference: str) -> float:
    """F1 of the words two texts share, normalized (Rajpurkar et al. 2016)."""
    words = [Counter(normalize_answer(text)) for text in (answer, reference)]
    common = (words[0] & words[1]).total()
    return 2 * common / max(1, words[0].total() + words[1].total())


def wilson_interval(correct: np.ndarray) -> Metric:
    """A share of right answers with Wilson's interval, from one True or False a row."""
    correct = np.asarray(correct, dtype=bool)
    test = binomtest(int(correct.sum()), len(correct))
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return Metric(float(correct.mean()), interval.low, interval.high, len(correct))


def bootstrap_interval(values: np.ndarray, groups: np.ndarray | None = None) -> Metric:
    """The mean of `values`, (rows) or (seeds, rows), with a bootstrap interval that resamples rows and, where
    there are several, seeds: it covers another draw of test rows, and another training run. Rows of one group
    (rows), such as an article's sentences, are drawn together."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    seed_counts, row_counts = _resample(values.shape, groups)
    means = np.einsum("rs,sn,rn->r", seed_counts, values, row_counts, optimize=True)
    return _find_interval(values.mean(), means / (row_counts.sum(1) * len(values)), values.shape[1])


def bootstrap_macro_f1(labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None = None) -> Metric:
    """Macro-F1 of predicted classes, (rows) or (seeds, rows), with an interval as `bootstrap_interval`'s."""
    predicted = np.atleast_2d(predicted)
    classes = int(max(labels.max(), predicted.max())) + 1
    cells = np.eye(classes**2)[labels.astype(int) * classes + predicted]  # each row's in the confusion table
    seed_counts, row_counts = _resample(predicted.shape, groups)
    row_counts = np.concatenate([np.ones((1, len(labels))), row_counts])  # first the rows as they are
    tables = np.einsum("rn,snk->rsk", row_counts, cells, optimize=True)
    tables = tables.reshape(len(tables), -1, classes, classes)
    scores = 2 * tables.diagonal(axis1=2, axis2=3) / np.maximum(1, tables.sum(2) + tables.sum(3))
    draws = (scores[1:].mean(-1) * seed_counts).sum(1) / len(predicted)
    return _find_interval(scores[0].mean(), draws, len(labels))


def _resample(shape: tuple[int, int], groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed (resamples, seeds) and each row (resamples, rows) is drawn."""
    random, (seeds, rows) = np.random.default_rng(0), shape
    groups = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = groups.max() + 1
    seed_counts = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    return seed_counts, random.multinomial(count, np.full(count, 1 / count), RESAMPLES)[:, groups]


def _find_interval(value: float, draws: np.ndarray, rows: int) -> Metric:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Metric(float(value), float(low), float(high), rows)


def compare_paired(a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None) -> PairedComparison:
    """Compares two systems on the same rows: True or False by row, or by (seed, row); `groups` as in
    `bootstrap_interval`."""
    a, b = np.atleast_2d(a).astype(bool), np.atleast_2d(b).astype(bool)
    if a.shape != b.shape:
        raise ValueError(f"The two systems were asked different rows: {a.shape} against {b.shape}.")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    differences = a.astype(float) - b.astype(float)
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    p_value = float(p_value) if len(a) == 1 else None
    return PairedComparison(bootstrap_interval(differences, groups=groups), only_a, only_b, p_value)


def tabulate_pairs(ours: str, pairs: dict[str, PairedComparison]) -> pd.DataFrame:
    """One row a rival of system `ours`: the difference in points with its interval, the rows that one alone
    gets right, McNemar's p (each comparison of one seed)."""
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


def tabulate_confusion(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """Counts of rows: true class down, predicted class across."""
    counts = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    return pd.DataFrame(
        counts, index=pd.Index(class_names, name="true"), columns=pd.Index(class_names, name="predicted")
    )


def calibrate(labels: np.ndarray, probabilities: np.ndarray, bins: int = 8) -> tuple[pd.DataFrame, float]:
    """How far confidence can be believed: a table by equally filled bins of confidence, and the expected
    calibration error (mean distance of confidence and accuracy, weighted by rows)."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    order = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(labels)))
    table = pd.DataFrame(
        {
            "confidence": [confidence[i].mean() for i in order],
            "accuracy": [correct[i].mean() for i in order],
            "rows": [len(i) for i in order],
        }
    )
    gap = (table["confidence"] - table["accuracy"]).abs()
    return table, float((gap * table["rows"]).sum() / table["rows"].sum())

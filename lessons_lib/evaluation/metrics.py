"""Scores of predictions: accuracy, F1, overlap of words, calibration; all without a network."""

import re
from collections import Counter

import datasets
import evaluate
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
)

STEM = 5  # letters; words that begin alike count as one word
STOP_STEMS = {word[:STEM] for word in ENGLISH_STOP_WORDS}
# what makes an answer right, or half right (see `mark_answer`)
RIGHT = 0.75
HALF = 0.4


class ClassificationMetrics(evaluate.Metric):
    """Accuracy, and macro-averaged precision, recall and F1, as an `evaluate` metric.

    `evaluate.load("accuracy")` fetches a script from the Hub; a Metric defined here needs no
    network.
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


def score_classifier(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, macro-averaged precision, recall and F1, and mean log loss in nats.

    labels: class numbers (rows). probabilities: (rows, classes).
    """
    scores = ClassificationMetrics().compute(predictions=probabilities.argmax(1), references=labels)
    loss = log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1]))
    return {**scores, "loss": float(loss)}


def normalize_answer(text: str) -> list[str]:
    """The words of a text without case, punctuation and articles.

    Two answers match exactly if these words are equal (Rajpurkar et al. 2016).
    """
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the")]


def score_token_f1(answer: str, reference: str) -> float:
    """F1, 0 to 1, of the normalized words that two texts share (Rajpurkar et al. 2016).

    >>> score_token_f1("The heart.", "an enlarged heart")  # 1 of 1 word right, 1 of 2 found
    0.6666666666666666
    """
    words = [Counter(normalize_answer(text)) for text in (answer, reference)]
    common = (words[0] & words[1]).total()
    return 2 * common / max(1, words[0].total() + words[1].total())


def find_stems(text: str) -> set[str]:
    """The first five letters of every word of more than three; words that begin alike count as one.

    >>> sorted(find_stems("Enlarged hearts, an enlargement of the heart"))
    ['enlar', 'heart']
    """
    return {word[:STEM] for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3}


def mark_answer(answer: str, definition: str) -> str:
    """Whether an answer states what a definition says: "right", "half" or "wrong".

    The rule: both texts are reduced to their `find_stems` without English stop words. The answer is
    right where the F1 of the two sets is RIGHT or more, half right from HALF on.

    >>> mark_answer("A thickened skin of the palms.", "Thickening of the skin of the palms")
    'right'
    """
    if normalize_answer(answer) == normalize_answer(definition):  # such as numbers, or "42 °C"
        return "right"
    ours, theirs = (find_stems(text) - STOP_STEMS for text in (answer, definition))
    overlap = 2 * len(ours & theirs) / max(1, len(ours) + len(theirs))
    if overlap >= RIGHT:
        return "right"
    return "half" if overlap >= HALF else "wrong"


def tabulate_confusion(
    labels: np.ndarray, predicted: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """A table of row counts: true classes down, predicted classes across.

    labels, predicted: class numbers (rows), indices of `class_names`.

    >>> table = tabulate_confusion([0, 0, 1], [0, 1, 1], ["negative", "positive"])
    >>> int(table.loc["negative", "positive"])
    1
    """
    counts = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    return pd.DataFrame(
        counts,
        index=pd.Index(class_names, name="true"),
        columns=pd.Index(class_names, name="predicted"),
    )


def calibrate(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 8
) -> tuple[pd.DataFrame, float]:
    """A table of confidence and accuracy by bin, and the expected calibration error, 0 to 1.

    labels: class numbers (rows). probabilities: (rows, classes). Rows are sorted by confidence into
    `bins` bins of equal size. The error is the mean distance of a bin's confidence and accuracy,
    weighted by its rows.

    >>> table, error = calibrate(np.array([1, 0]), np.array([[0.2, 0.8], [0.4, 0.6]]), bins=1)
    >>> float(table["confidence"][0]), float(table["accuracy"][0]), round(error, 3)
    (0.7, 0.5, 0.2)
    """
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


def simulate_honest_error(
    probabilities: np.ndarray, bins: int = 8, draws: int = 500, seed: int = 0
) -> tuple[float, float]:
    """The expected calibration error that a perfectly honest model would show on rows like these:
    the middle 95 % of `draws` simulations.

    With few rows in a bin even an honest model is off by chance. probabilities: (rows, classes). In
    each draw the labels are drawn from the probabilities themselves.

    >>> low, high = simulate_honest_error(np.tile([0.3, 0.7], (100, 1)), bins=4)
    >>> 0.01 < low < high < 0.2
    True
    """
    random = np.random.default_rng(seed)
    bounds = probabilities.cumsum(1)
    errors = []
    for _ in range(draws):
        labels = (random.random((len(bounds), 1)) * bounds[:, -1:] > bounds).sum(1)
        errors.append(calibrate(labels, probabilities, bins)[1])
    low, high = np.quantile(errors, [0.025, 0.975])
    return float(low), float(high)

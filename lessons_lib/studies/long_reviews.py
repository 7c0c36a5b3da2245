"""Long reviews made of short ones, and long texts read in parts.

Contract: the sentences of a split stay in it. Nothing is trained here.
"""

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value
from transformers import PreTrainedTokenizerBase

from lessons_lib.training.batches import cut_into_parts

OWN_SENTENCES = 8  # of the review's own class
OTHER_SENTENCES = 4
ROWS_PER_REVIEW = 4  # so a sentence is in three reviews on average


def make_long_reviews(splits: DatasetDict, seed: int) -> DatasetDict:
    """Long reviews of 12 rows each, in any order: eight of the review's class and four of the other
    one. The training reviews are drawn by `seed`; the others are always the same.
    """
    return DatasetDict(
        {
            name: _join_rows(split, np.random.default_rng(seed if name == "train" else 0))
            for name, split in splits.items()
        }
    )


def _join_rows(split: Dataset, random: np.random.Generator) -> Dataset:
    texts = np.array(split["text"], dtype=object)
    labels = np.array(split["label"])
    own_labels = np.arange(len(texts) // ROWS_PER_REVIEW) % 2
    reviews = []
    for own in own_labels:
        rows = [
            *random.choice(np.flatnonzero(labels == own), OWN_SENTENCES, replace=False),
            *random.choice(np.flatnonzero(labels != own), OTHER_SENTENCES, replace=False),
        ]
        reviews.append(" ".join(texts[random.permutation(rows)]))
    return _label_texts(reviews, own_labels, split)


def cut_reviews(
    splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[DatasetDict, np.ndarray]:
    """The parts of all texts, each with the label of its text; and for each part of the test rows
    the number of its text.
    """
    parts = DatasetDict()
    owners = {}
    for name, split in splits.items():
        texts, owners[name] = cut_into_parts(split["text"], tokenizer, max_tokens)
        parts[name] = _label_texts(texts, np.array(split["label"])[owners[name]], split)
    return parts, owners["test"]


def average_parts(probabilities: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Probabilities (texts, classes) from those of the texts' parts (parts, classes).

    >>> average_parts(np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]), np.array([0, 0, 1]))
    array([[0.7, 0.3],
           [0.2, 0.8]])
    """
    sums = np.zeros((owners.max() + 1, probabilities.shape[1]))
    np.add.at(sums, owners, probabilities)
    return sums / np.bincount(owners)[:, None]


def _label_texts(texts: list[str], labels: np.ndarray, like: Dataset) -> Dataset:
    features = Features({"text": Value("string"), "label": like.features["label"]})
    return Dataset.from_dict({"text": texts, "label": labels.tolist()}, features=features)

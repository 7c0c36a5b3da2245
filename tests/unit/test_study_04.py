"""Lesson 04's study: rates that were chosen are those that its own sweeps found."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from lessons_lib import models, report, training
from lessons_lib.studies import long_reviews, study_04


@pytest.fixture(scope="module")
def published():
    return report.read_results(study_04.LESSON, "study")


@pytest.mark.parametrize("method", study_04.METHOD_RATES)
def test_a_method_runs_at_the_best_rate_of_its_sweep(published, method):
    """Failing means a relative of LoRA is compared at a rate that somebody typed."""

    def accuracy(rate):
        arm = f"sweep_{method}={rate:g}"
        return published.find(arm, "accuracy", subset="validation").value

    rates = study_04.METHOD_RATES[method]
    assert study_04.CHOSEN_RATES[method] == max(rates, key=accuracy)


@pytest.mark.parametrize("method", study_04.METHOD_RATES)
def test_the_best_rate_is_not_at_the_edge_of_its_sweep(method):
    """Failing means a better rate may lie beyond what was tried."""
    rates = sorted(study_04.METHOD_RATES[method])
    assert study_04.CHOSEN_RATES[method] in rates[1:-1]


@pytest.fixture
def sentences():
    """Splits of short texts, each of which names its split, its number and its class."""
    features = Features(
        {"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])}
    )
    splits = DatasetDict()
    for name in ("train", "test"):
        labels = [number % 2 for number in range(40)]
        texts = [f"{name}{number}class{label}." for number, label in enumerate(labels)]
        splits[name] = Dataset.from_dict({"text": texts, "label": labels}, features=features)
    return splits


def test_long_reviews_are_made_of_their_own_splits_sentences(sentences):
    """Failing means a sentence is on both sides of the test, or a review has a wrong label."""
    made = long_reviews.make_long_reviews(sentences, seed=1)
    for name, split in made.items():
        assert len(split) == 10
        for review in split:
            words = review["text"].split()
            own = [word.endswith(f"class{review['label']}.") for word in words]
            assert len(set(words)) == 12
            assert sum(own) == long_reviews.OWN_SENTENCES
            assert all(word.startswith(name) for word in words)


def test_seed_draws_training_reviews_alone(sentences):
    """Failing means the seeds of a study are tested on different reviews."""
    one, other = (long_reviews.make_long_reviews(sentences, seed) for seed in (1, 2))
    assert one["train"]["text"] != other["train"]["text"]
    assert one["test"]["text"] == other["test"]["text"]


def test_parts_hold_all_of_a_text_and_fit():
    """Failing means reading in parts loses words, or parts are cut once more."""
    tokenizer = models.load_tokenizer("tiny")
    texts = ["a film", "the movie was good and the plot was thin " * 6]
    parts, owners = training.cut_into_parts(texts, tokenizer, max_tokens=16)
    assert owners[0] == 0
    assert owners.tolist().count(1) > 1
    assert max(len(tokenizer(part)["input_ids"]) for part in parts) <= 16
    joined = " ".join(part for part, owner in zip(parts, owners, strict=True) if owner == 1)
    assert joined.split() == texts[1].split()


def test_parts_of_a_text_are_averaged_with_each_other_only():
    """Failing means the parts of one review count for another."""
    probabilities = np.array([[0.0, 1.0], [0.2, 0.8], [1.0, 0.0]])
    averaged = long_reviews.average_parts(probabilities, np.array([0, 0, 1]))
    assert averaged == pytest.approx(np.array([[0.1, 0.9], [1.0, 0.0]]))

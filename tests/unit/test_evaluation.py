"""Evaluation: numbers that can be checked by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from lessons_lib import evaluation, models

pytestmark = pytest.mark.usefixtures("each_precision")


def test_metrics_need_no_network_and_are_right():
    """Failing means accuracy comes from a script on the Hub, or is wrong."""
    scores = evaluation.ClassificationMetrics().compute(
        predictions=[1, 1, 0, 0, 1], references=[1, 0, 0, 0, 1]
    )
    assert scores["accuracy"] == pytest.approx(0.8)
    assert scores["precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["recall"] == pytest.approx((1 + 2 / 3) / 2)


def test_wilson_interval_has_its_published_values():
    """Failing means every interval in the course is wrong (85 of 100: Wilson 1927's formula by
    hand).
    """
    metric = evaluation.wilson_interval([True] * 85 + [False] * 15)
    assert (metric.value, metric.n) == (0.85, 100)
    assert metric.low == pytest.approx(0.7672, abs=1e-4)
    assert metric.high == pytest.approx(0.9069, abs=1e-4)


def test_mcnemar_is_the_sign_test_of_disagreements():
    """Failing means "better than the baseline" is claimed on a wrong p-value (10 against 2:
    79/2048).
    """
    a = [True] * 10 + [False] * 2 + [True] * 50
    b = [False] * 10 + [True] * 2 + [True] * 50
    pair = evaluation.compare_paired(a, b)
    assert (pair.only_a, pair.only_b) == (10, 2)
    assert pair.p_value == pytest.approx(2 * (1 + 12 + 66) / 4096)


def test_systems_on_different_rows_are_refused():
    """Failing means two systems are compared on rows that do not match."""
    with pytest.raises(ValueError, match="different rows"):
        evaluation.compare_paired([True, False], [True])


def test_seeds_widen_the_interval():
    """Failing means a lucky seed passes for a result: unlike seeds must be less certain."""
    rows = np.random.default_rng(0).random((1, 400))
    alike = np.repeat(rows < 0.8, 3, axis=0)
    unlike = np.concatenate([rows < share for share in (0.7, 0.8, 0.9)])
    narrow, wide = evaluation.bootstrap_interval(alike), evaluation.bootstrap_interval(unlike)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_sentences_of_one_article_are_drawn_together():
    """Failing means 100 copies of one sentence count as 100 pieces of evidence."""
    articles = np.repeat(np.arange(20), 20)
    # an article's rows are all right or all wrong
    values = np.random.default_rng(0).random(20)[articles] < 0.5
    alone = evaluation.bootstrap_interval(values)
    together = evaluation.bootstrap_interval(values, groups=articles)
    assert together.value == alone.value
    assert together.high - together.low > 3 * (alone.high - alone.low)
    f1 = [evaluation.bootstrap_macro_f1(values * 0, values, groups=g) for g in (None, articles)]
    assert f1[1].high - f1[1].low > 3 * (f1[0].high - f1[0].low)


def test_interval_of_a_sure_difference_excludes_zero():
    """Failing means bootstrap intervals are off."""
    metric = evaluation.bootstrap_interval(np.array([1.0] * 60 + [0.0] * 40))
    assert metric.low == pytest.approx(0.5, abs=0.02)
    assert metric.high == pytest.approx(0.7, abs=0.02)


def test_macro_f1_is_scikit_learns_and_its_interval_holds_it():
    """Failing means the F1 that stands beside every accuracy is another one."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=300)
    predicted = np.where(random.random((2, 300)) < 0.7, labels, random.integers(3, size=300))
    metric = evaluation.bootstrap_macro_f1(labels, predicted)
    assert metric.value == pytest.approx(
        np.mean([f1_score(labels, p, average="macro") for p in predicted])
    )
    assert metric.low < metric.value < metric.high < metric.low + 0.2
    assert evaluation.bootstrap_macro_f1(labels, labels).low == 1


def test_predictions_keep_the_order_of_rows(tokens):
    """Failing means predictions belong to other rows: the error nobody sees."""
    model = models.load_classifier("tiny", seed=0, dropout=0.0)[0]
    together = evaluation.predict(model, tokens["test"], batch_size=5)
    for number in (0, 7, 23):
        alone = evaluation.predict(model, tokens["test"].select([number]))
        assert together[number] == pytest.approx(alone[0], abs=5e-3)


def test_probabilities_sum_to_one(tokens):
    """Failing means log loss and calibration are computed on something else."""
    model = models.load_classifier("tiny", seed=0)[0]
    assert evaluation.predict(model, tokens["test"]).sum(1) == pytest.approx(1, abs=1e-6)


def test_calibration_error_of_an_overconfident_model():
    """Failing means overconfidence goes unseen: .9 sure and right half the time is an error of
    .4.
    """
    probabilities = np.array([[0.1, 0.9]] * 100)
    _, error = evaluation.calibrate(np.array([0, 1] * 50), probabilities, bins=1)
    assert error == pytest.approx(0.4)


def test_baselines_beat_chance_and_probe_reads_features(reviews):
    """Failing means a baseline is broken and flatters whatever stands beside it."""
    wordy = {"train": {"text": ["good film", "bad film"] * 20, "label": [1, 0] * 20}}
    wordy["validation"] = wordy["train"]
    for fit in (models.fit_tfidf, models.fit_nbsvm):
        assert fit(wordy).predict(["a good one", "a bad one"]).tolist() == [1, 0]
    features = {name: np.array([[0.0], [1.0]] * 20) for name in ("train", "validation")}
    labels = {name: np.array([0, 1] * 20) for name in features}
    assert models.fit_linear_probe(features, labels).score(features["train"], labels["train"]) == 1


def test_naive_bayes_weights_are_log_count_ratios():
    """Failing means NB-SVM is only a word count (each word in both rows of one class)."""
    from scipy.sparse import csr_matrix

    counts = csr_matrix([[1, 0], [3, 0], [0, 1], [0, 1]])
    weights = models.NaiveBayesWeights().fit(counts, [1, 1, 0, 0])
    assert weights.ratio_ == pytest.approx([np.log(3), -np.log(3)])
    assert weights.transform(counts).toarray()[1] == pytest.approx([np.log(3), 0])


def test_table_of_pairs_says_what_was_compared():
    """Failing means a difference is printed with the wrong sign, or under the wrong system's
    name.
    """
    pair = evaluation.compare_paired([True] * 30 + [False] * 10, [False] * 30 + [True] * 10)
    row = evaluation.tabulate_pairs("ours", {"theirs": pair}).loc["ours − theirs"]
    assert row["difference"] == "+50.0 points"
    assert (row["ours alone right"], row["other alone right"]) == (30, 10)
    assert row["p (McNemar)"] == f"{pair.p_value:.1e}"


def test_share_of_equal_answers_has_no_certain_interval():
    """Failing means 12 of 12 right is printed as [1.00, 1.00]."""
    share = evaluation.measure_share(np.ones((3, 12), dtype=bool))
    assert (share.value, share.n, share.interval) == (1.0, 12, "wilson")
    assert 0.7 < share.low < 0.8
    grouped = evaluation.measure_share(np.ones(12, dtype=bool), np.arange(12) // 4)
    assert grouped.low < share.low


def test_an_honest_model_has_a_calibration_error_too():
    """Failing means a calibration error is judged against zero, which nobody reaches."""
    probabilities = np.tile([0.2, 0.8], (150, 1))
    low, high = evaluation.simulate_honest_error(probabilities)
    more_rows = evaluation.simulate_honest_error(np.tile([0.2, 0.8], (6000, 1)))
    assert 0.02 < low < high < 0.15
    assert more_rows[1] < low

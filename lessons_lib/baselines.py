"""The classical classifiers a sceptic would ask for, each a scikit-learn estimator.

Contract: fitted on texts and labels of the training split, the regularisation strength chosen on
validation, deterministic. `predict_proba` gives (rows, classes).
"""

import numpy as np
from datasets import DatasetDict
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
WORDS = r"(?u)\b\w+\b|[!?]"  # one-letter words and exclamation marks count


class NaiveBayesWeights(TransformerMixin, BaseEstimator):
    """Multiplies binary word counts by their naive Bayes log-count ratios (Wang & Manning 2012)."""

    def fit(self, counts: sparse.csr_matrix, labels: np.ndarray) -> "NaiveBayesWeights":
        """Two classes, labelled 0 and 1; counts (rows, words)."""
        present, labels = counts > 0, np.asarray(labels)
        positive = 1 + np.asarray(present[labels == 1].sum(0)).ravel()
        negative = 1 + np.asarray(present[labels == 0].sum(0)).ravel()
        self.ratio_ = np.log(positive / positive.sum()) - np.log(negative / negative.sum())
        return self

    def transform(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """(rows, words), weighted."""
        return (counts > 0).astype(float).multiply(self.ratio_).tocsr()


class VaderClassifier(ClassifierMixin, BaseEstimator):
    """VADER, a lexicon with rules (Hutto & Gilbert 2014). Its compound score c, −1 to 1, is read as the
    probability (1 + c) / 2; a text without any word it knows gets the training split's share of class 1."""

    def fit(self, texts: list[str], labels: np.ndarray) -> "VaderClassifier":
        """Learns that share, and nothing else."""
        self.classes_, self.prior_ = np.unique(labels), float(np.mean(labels))
        self.analyzer_ = SentimentIntensityAnalyzer()
        return self

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        """(rows, 2)."""
        compound = np.array([self.analyzer_.polarity_scores(text)["compound"] for text in texts])
        positive = np.where(compound == 0, self.prior_, (1 + compound) / 2)
        return np.stack([1 - positive, positive], 1)

    def predict(self, texts: list[str]) -> np.ndarray:
        """The likelier class of every row."""
        return self.predict_proba(texts).argmax(1)


def fit_majority(splits: DatasetDict) -> ClassifierMixin:
    """Always the commonest class of the training split."""
    return DummyClassifier(strategy="most_frequent").fit(splits["train"]["text"], splits["train"]["label"])


def fit_vader(splits: DatasetDict) -> VaderClassifier:
    """The lexicon; training rows serve for ties alone."""
    return VaderClassifier().fit(splits["train"]["text"], splits["train"]["label"])


def fit_tfidf(splits: DatasetDict) -> Pipeline:
    """Logistic regression on TF-IDF of words and word pairs."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORDS)
    return _choose_strength(lambda c: make_pipeline(words, _regression(c)), splits)


def fit_nbsvm(splits: DatasetDict) -> Pipeline:
    """NB-SVM: a linear classifier on naive Bayes log-count ratios of words, pairs and triples.

    The linear part is logistic regression, which does as well as the SVM here and gives probabilities.
    """
    words = CountVectorizer(ngram_range=(1, 3), binary=True, token_pattern=WORDS)
    return _choose_strength(lambda c: make_pipeline(words, NaiveBayesWeights(), _regression(c)), splits)


def fit_linear_probe(features: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> Pipeline:
    """Logistic regression on frozen features (rows, width) of "train", chosen on "validation"."""
    pipelines = [
        make_pipeline(StandardScaler(), _regression(c)).fit(features["train"], labels["train"])
        for c in (0.001, 0.01, 0.1, 1.0)
    ]
    return max(pipelines, key=lambda p: p.score(features["validation"], labels["validation"]))


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=2000)


def _choose_strength(build, splits: DatasetDict) -> Pipeline:  # noqa: ANN001
    train, validation = splits["train"], splits["validation"]
    fitted = [build(c).fit(train["text"], train["label"]) for c in STRENGTHS]
    return max(fitted, key=lambda p: p.score(validation["text"], validation["label"]))

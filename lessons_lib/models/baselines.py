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
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
WORDS = r"(?u)\b\w+\b|[!?]"  # one-letter words and exclamation marks count


class NaiveBayesWeights(TransformerMixin, BaseEstimator):
    """Multiplies binary word counts by their naive Bayes log-count ratios (Wang & Manning 2012)."""

    def fit(self, counts: sparse.csr_matrix, labels: np.ndarray) -> "NaiveBayesWeights":
        """Two classes, labelled 0 and 1; counts (rows, words)."""
        present = counts > 0
        labels = np.asarray(labels)
        positive = 1 + np.asarray(present[labels == 1].sum(0)).ravel()
        negative = 1 + np.asarray(present[labels == 0].sum(0)).ravel()
        self.ratio_ = np.log(positive / positive.sum()) - np.log(negative / negative.sum())
        return self

    def transform(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """(rows, words), weighted."""
        return (counts > 0).astype(float).multiply(self.ratio_).tocsr()


def fit_majority(splits: DatasetDict) -> ClassifierMixin:
    """Always the commonest class of the training split."""
    return DummyClassifier(strategy="most_frequent").fit(
        splits["train"]["text"], splits["train"]["label"]
    )


def fit_vader(splits: DatasetDict) -> Pipeline:
    """VADER, a lexicon with rules (Hutto & Gilbert 2014). Logistic regression on its compound score
    c, −1 to 1, and on |c| learns where the classes part: two near 0, a neutral one around it."""
    train = splits["train"]
    model = make_pipeline(FunctionTransformer(score_vader), _regression(1.0))
    return model.fit(train["text"], train["label"])


def score_vader(texts: list[str]) -> np.ndarray:
    """The lexicon's compound score of each text and its absolute value: (texts, 2)."""
    analyzer = SentimentIntensityAnalyzer()
    compound = np.array([analyzer.polarity_scores(text)["compound"] for text in texts])
    return np.stack([compound, np.abs(compound)], 1)


def fit_tfidf(splits: DatasetDict) -> Pipeline:
    """Logistic regression on TF-IDF of words and word pairs."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORDS)
    return _choose_strength(lambda c: make_pipeline(words, _regression(c)), splits)


def fit_nbsvm(splits: DatasetDict) -> Pipeline:
    """NB-SVM: a linear classifier on naive Bayes log-count ratios of words, pairs and triples.

    The linear part is logistic regression, which does as well as the SVM here and gives
    probabilities. Of more than two classes, each is told from the rest.
    """
    words = CountVectorizer(ngram_range=(1, 3), binary=True, token_pattern=WORDS)

    def build(c: float) -> Pipeline:
        """An untrained NB-SVM of inverse regularisation strength `c`."""
        return make_pipeline(
            words, OneVsRestClassifier(make_pipeline(NaiveBayesWeights(), _regression(c)))
        )

    return _choose_strength(build, splits)


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
    train = splits["train"]
    validation = splits["validation"]
    fitted = [build(c).fit(train["text"], train["label"]) for c in STRENGTHS]
    return max(fitted, key=lambda p: p.score(validation["text"], validation["label"]))

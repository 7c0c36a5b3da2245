"""The classical rivals: fair, and doing what their names say."""

import numpy as np
from datasets import Dataset, DatasetDict

from lessons_lib import models

GOOD = ["A wonderful film!", "Great acting, lovely music.", "I loved it.", "Brilliant."]
BAD = ["A terrible film.", "Awful acting, ugly music.", "I hated it.", "Horrible."]
ROWS = Dataset.from_dict({"text": GOOD + BAD, "label": [1] * 4 + [0] * 4})


def test_lexicon_knows_good_from_bad_and_reads_negation():
    """Failing means VADER's scores are turned round or its rules are off."""
    model = models.fit_vader(DatasetDict(train=ROWS))
    assert model.predict(["A superb film!", "A dreadful film.", "Not a good film."]).tolist() == [
        1,
        0,
        0,
    ]


def test_lexicon_without_a_known_word_is_near_the_training_shares():
    """Failing means ties always count as one class, which makes the rival look worse than it is."""
    model = models.fit_vader(DatasetDict(train=ROWS))
    assert np.allclose(model.predict_proba(["xyz"]), 0.5, atol=0.1)


def test_three_classes_have_every_rival():
    """Failing means a rival ignores a class, or its probabilities are no shares."""
    texts = ["awful, terrible loss", "the meeting is on Monday", "a wonderful, great success"] * 8
    rows = Dataset.from_dict({"text": texts, "label": [0, 1, 2] * 8})
    splits = DatasetDict(train=rows, validation=rows)
    for fit in (models.fit_vader, models.fit_tfidf, models.fit_nbsvm):
        probabilities = fit(splits).predict_proba(texts[:3])
        assert np.allclose(probabilities.sum(1), 1)
        assert probabilities.argmax(1).tolist() == [0, 1, 2], fit.__name__

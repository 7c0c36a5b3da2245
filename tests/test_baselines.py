"""The classical rivals: fair, and doing what their names say."""

import numpy as np
from datasets import Dataset, DatasetDict

from lessons_lib import baselines

TRAIN = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 1, 0]})
SPLITS = DatasetDict(train=TRAIN, validation=TRAIN)


def test_lexicon_knows_good_from_bad_and_reads_negation():
    """Failing means VADER's scores are turned round or its rules are off."""
    model = baselines.fit_vader(SPLITS)
    assert model.predict(["A wonderful film!", "A terrible film.", "Not a good film."]).tolist() == [1, 0, 0]


def test_lexicon_without_a_known_word_takes_the_commoner_class():
    """Failing means ties always count as one class, which makes the rival look worse than it is."""
    assert np.allclose(baselines.fit_vader(SPLITS).predict_proba(["xyz"]), [[1 / 3, 2 / 3]])

"""Looking inside models: the facts that lesson 01 teaches."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import take_functions

from lessons_lib import models

read_attention, trace_change, attribute_words = take_functions(
    "01_gpt_vs_bert", "read_attention", "trace_change", "attribute_words", np=np, pd=pd, torch=torch
)
IDS, CHANGED = [7, 60, 90, 33, 120, 41], [7, 60, 90, 33, 121, 41]


@pytest.fixture(scope="module")
def decoder():
    return models.load_decoder("tiny")[0]


@pytest.fixture(scope="module")
def encoder():
    return models.load_classifier("tiny", seed=0)[0].base_model


def test_a_later_word_moves_no_earlier_state_in_a_decoder(decoder):
    """Failing means the decoder is not causal, and lesson 01's claim is false."""
    moved = trace_change(decoder, IDS, CHANGED)
    assert moved.shape == (3, 6)  # the embedding and two layers
    assert moved[:, :4].max() < 1e-6
    assert moved[:, 4].min() > 1e-4
    assert moved[1:, 5].min() > 1e-6


def test_a_later_word_moves_every_state_in_an_encoder(encoder):
    """Failing means the encoder does not read both sides, and lesson 01's claim is false."""
    moved = trace_change(encoder, IDS, CHANGED)
    assert moved[1:].min() > 1e-6
    assert moved[0, :4].max() == 0


def test_attention_is_whole_and_masked_as_it_should_be(decoder, encoder):
    """Failing means the maps in lesson 01 are not the models' own."""
    for model, causal in ((decoder, True), (encoder, False)):
        before = model.config._attn_implementation
        weights = read_attention(model, IDS)
        assert weights.shape == (2, 4, 6, 6)
        assert np.allclose(weights.sum(-1), 1, atol=1e-5)
        assert (weights[..., np.triu(np.ones((6, 6)), 1) > 0].max() == 0) == causal
        assert model.config._attn_implementation == before


def test_words_are_credited_with_what_they_change():
    """Failing means the word figure blames the wrong words."""
    table = attribute_words(
        lambda texts: np.array([t.count("good") - t.count("bad") for t in texts]), "good but bad"
    )
    assert table["word"].tolist() == ["good", "but", "bad"]
    assert table["effect"].tolist() == [1, 0, -1]

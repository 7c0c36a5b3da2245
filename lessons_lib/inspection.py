"""Looking inside a model: what attention reads, which states a word reaches, which words a verdict rests on.

Contract: works on encoders and decoders alike, changes no weight, draws nothing.
"""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel


@torch.inference_mode()
def read_attention(model: PreTrainedModel, ids: list[int]) -> np.ndarray:
    """Attention weights on one text: (layers, heads, reading token, token read); each row sums to 1."""
    with _attend_plainly(model):
        output = model(**_batch(model, ids), output_attentions=True)
    return torch.cat(output.attentions).float().cpu().numpy()


@torch.inference_mode()
def trace_change(model: PreTrainedModel, ids: list[int], changed: list[int]) -> np.ndarray:
    """How far every position's state moves when `ids` become `changed`: (layers + 1, tokens).

    Row 0 is the embedding; each number is the largest absolute difference over the state's width. Raises
    ValueError when the two have different lengths: then positions cannot be compared.
    """
    if len(ids) != len(changed):
        raise ValueError(
            f"The texts have {len(ids)} and {len(changed)} tokens. Remedy: swap a word for one of as many."
        )
    states = [
        torch.stack(model(**_batch(model, row), output_hidden_states=True).hidden_states).float()
        for row in (ids, changed)
    ]
    return (states[0] - states[1]).abs().amax(-1)[:, 0].cpu().numpy()


def attribute_words(score: Callable[[list[str]], np.ndarray], text: str) -> pd.DataFrame:
    """What each word contributes to a score: columns word, effect = score(text) − score(text without it).

    score: texts → one number each. The simplest attribution there is; it misses words that stand in for
    each other, for leaving out one of them changes nothing.
    """
    words = text.split()
    shorter = [" ".join(words[:number] + words[number + 1 :]) for number in range(len(words))]
    scores = score([text, *shorter])
    return pd.DataFrame({"word": words, "effect": scores[0] - scores[1:]})


def _batch(model: PreTrainedModel, ids: list[int]) -> dict[str, torch.Tensor]:
    row = torch.tensor([ids], device=model.device)
    return {"input_ids": row, "attention_mask": torch.ones_like(row)}


@contextlib.contextmanager
def _attend_plainly(model: PreTrainedModel) -> Iterator[None]:
    """The fused attention never writes its weights down; the plain one does."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)

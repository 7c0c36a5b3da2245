"""Models applied to rows: class probabilities and sentence vectors, in the order of the rows."""

import contextlib
from collections.abc import Callable, Iterable

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from lessons_lib.hardware import choose_precision
from lessons_lib.models.attention import fast_attention
from lessons_lib.models.classifier import load_classifier
from lessons_lib.models.pooling import average_tokens
from lessons_lib.training.batches import find_pad_id, pad_batch
from lessons_lib.training.precision import hold_linear_layers


def predict(model: nn.Module, rows: Dataset, *, batch_size: int = 64) -> np.ndarray:
    """Class probabilities (rows, classes) of tokenized rows, in the order of the rows."""

    def read_probabilities(output: object, mask: torch.Tensor) -> torch.Tensor:
        """The class probabilities of a batch (rows, classes)."""
        return output.logits.double().softmax(-1)

    return _run_model(model, rows, batch_size, read_probabilities)


def classify_texts(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], max_tokens: int
) -> np.ndarray:
    """Class probabilities (texts, classes) of texts, each cut to its first `max_tokens` tokens."""
    # a tokenizer refuses a column of a data set, which is no list
    token_ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return predict(model, Dataset.from_dict({"input_ids": token_ids}))


def embed(encoder: nn.Module, rows: Dataset, *, batch_size: int = 64) -> np.ndarray:
    """Means of the encoder's last hidden states over real tokens (rows, width), in the order of the
    rows.
    """

    def read_mean(output: object, mask: torch.Tensor) -> torch.Tensor:
        """Means of a batch's hidden states over real tokens (rows, width)."""
        return average_tokens(output.last_hidden_state.float(), mask)

    return _run_model(encoder, rows, batch_size, read_mean)


class Embedder:
    """The encoder called `name` (see `load_classifier`), kept in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        model, self.tokenizer = load_classifier(name, seed=0)
        self.encoder = model.base_model

    def embed(self, texts: list[str], max_tokens: int = 256) -> np.ndarray:
        """Unit vectors (texts, width): the mean of each text's last hidden states over its first
        `max_tokens` tokens, divided by its length. Dot products are cosine similarities.
        """
        token_ids = self.tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        rows = Dataset.from_dict({"input_ids": token_ids})
        vectors = embed(self.encoder, rows, batch_size=32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@torch.inference_mode()
def _run_model(model: nn.Module, rows: Dataset, batch_size: int, read: Callable) -> np.ndarray:
    """`read(output, mask)` of all rows, in their order. Rows of similar length share a batch."""
    model.eval()
    token_ids = list(rows["input_ids"])
    order = np.argsort([len(row) for row in token_ids], kind="stable")
    device = next(model.parameters()).device
    precision = choose_precision()
    is_mixed = precision.dtype == "bfloat16"
    pad_id = find_pad_id(model)
    held = hold_linear_layers(model, precision.torch_dtype, frozen_only=False)
    parts = []
    with fast_attention(model), held if is_mixed else contextlib.nullcontext():
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            padded = pad_batch([{"input_ids": token_ids[number]} for number in numbers], pad_id)
            batch = {name: tensor.to(device) for name, tensor in padded.items()}
            with torch.autocast(device.type, precision.torch_dtype, enabled=is_mixed):
                output = model(**batch)
            parts.append(read(output, batch["attention_mask"]).cpu().numpy())
    result = np.concatenate(parts)
    return result[np.argsort(order)]

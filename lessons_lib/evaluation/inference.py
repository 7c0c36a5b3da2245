"""Models applied to rows: class probabilities and sentence vectors, in the order of the rows."""

from collections.abc import Callable

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from lessons_lib.hardware import choose_precision
from lessons_lib.models.classifier import load_classifier
from lessons_lib.training.batches import pad_batch


def predict(
    model: nn.Module, rows: Dataset, *, pad_id: int = 0, batch_size: int = 64
) -> np.ndarray:
    """Class probabilities (rows, classes) of tokenized rows, in the order of the rows."""
    return _run_model(
        model, rows, pad_id, batch_size, lambda output, mask: output.logits.double().softmax(-1)
    )


def embed(
    encoder: nn.Module, rows: Dataset, *, pad_id: int = 0, batch_size: int = 64
) -> np.ndarray:
    """Mean of the encoder's last states over real tokens (rows, width), in the order of the
    rows.
    """

    def read_mean(output: object, mask: torch.Tensor) -> torch.Tensor:
        """The mean of a batch's states over its real tokens (rows, width)."""
        states = output.last_hidden_state.float() * mask[..., None]
        return states.sum(1) / mask.sum(1, keepdim=True)

    return _run_model(encoder, rows, pad_id, batch_size, read_mean)


class Embedder:
    """The encoder of that name (see `load_classifier`), kept in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        model, self.tokenizer = load_classifier(name, seed=0)
        self.encoder = model.base_model

    def embed(self, texts: list[str], max_tokens: int = 256) -> np.ndarray:
        """Unit vectors (texts, width): the mean of each text's last states, so that products are
        cosines.
        """
        ids = self.tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        rows = Dataset.from_dict({"input_ids": ids})
        vectors = embed(self.encoder, rows, pad_id=self.tokenizer.pad_token_id, batch_size=32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@torch.inference_mode()
def _run_model(
    model: nn.Module, rows: Dataset, pad_id: int, batch_size: int, read: Callable
) -> np.ndarray:
    """`read(output, mask)` of every row. Rows of like length share a batch; the order is put
    back.
    """
    model.eval()
    ids = list(rows["input_ids"])
    order = np.argsort([len(row) for row in ids], kind="stable")
    device, precision = next(model.parameters()).device, choose_precision()
    parts = []
    for start in range(0, len(order), batch_size):
        batch = pad_batch(
            [{"input_ids": ids[i]} for i in order[start : start + batch_size]], pad_id
        )
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(
            device.type, precision.torch_dtype, enabled=precision.dtype == "bfloat16"
        ):
            output = model(**batch)
        parts.append(read(output, batch["attention_mask"]).cpu().numpy())
    result = np.concatenate(parts)
    return result[np.argsort(order)]

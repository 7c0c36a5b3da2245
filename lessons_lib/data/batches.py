"""Texts and token rows as what a model reads: tokenized, padded, or laid out as a tree.

Contract: rows keep their order; padding is masked. It reads no files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset, DatasetDict
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase


def tokenize_reviews(
    dataset: Dataset | DatasetDict, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Dataset | DatasetDict:
    """The same rows as `input_ids` (at most `max_tokens` each, unpadded) and `labels`."""

    def encode(batch: dict) -> dict:
        """A batch of rows, tokenized."""
        ids = tokenizer(batch["text"], truncation=True, max_length=max_tokens)["input_ids"]
        return {"input_ids": ids, "labels": batch["label"]}

    columns = dataset["train"].column_names if isinstance(dataset, DatasetDict) else dataset.column_names
    return dataset.map(encode, batched=True, remove_columns=columns, desc=None)


def pad_batch(rows: list[dict], pad_id: int) -> dict[str, torch.Tensor]:
    """Rows of `input_ids` (and `labels`) as tensors (batch, tokens), padded to the longest."""
    ids = [torch.as_tensor(row["input_ids"]) for row in rows]
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
    }
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    return batch


@dataclass(frozen=True)
class FlatRows:
    """Rows of tokens as one sequence in which what rows begin with in common stands once.

    `tokens` and `positions` (tokens); `visible` (tokens, tokens), True where a token may look: at itself and
    at what precedes it in its rows; `paths`, each row's places in the sequence.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    paths: list[list[int]]

    def inputs(self) -> dict[str, torch.Tensor]:
        """What a causal model reads: `input_ids` and `position_ids` (1, tokens), `attention_mask` (1, 1,
        tokens, tokens)."""
        mask = self.visible[None, None]
        return {"input_ids": self.tokens[None], "position_ids": self.positions[None], "attention_mask": mask}


def flatten_rows(rows: Iterable[Sequence[int]]) -> FlatRows:
    """Lays rows of tokens out as a tree: a causal model gives each token the state it has in its row alone,
    without padding, and reads shared beginnings (a system message, a question with four answers) once."""
    tokens, positions, parents, paths, places = [], [], [], [], {}
    for row in rows:
        path = [-1]
        for position, token in enumerate(row):
            place = places.setdefault((path[-1], token), len(tokens))
            if place == len(tokens):
                tokens.append(token)
                positions.append(position)
                parents.append(path[-1])
            path.append(place)
        paths.append(path[1:])
    visible = torch.eye(len(tokens), dtype=torch.bool)
    for place, parent in enumerate(parents):
        if parent >= 0:
            visible[place] |= visible[parent]
    return FlatRows(torch.tensor(tokens), torch.tensor(positions), visible, paths)

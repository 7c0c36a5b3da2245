"""Packs rows that share a prefix into one sequence with a tree attention mask, and its loss.

Contract: every row has the states and gradients that it would have alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lessons_lib.training.conversations import IGNORED

# Sequences are filled up to a multiple of so many tokens. oneDNN prepares every matrix product for
# its shape and keeps what it prepared, so batches of ever new lengths cost 7 to 10 % of the time
# and some 40 MB each (lesson 02's rows in bf16: 47 lengths 3.5 GB, 18 lengths 2.8 GB).
TOKENS_STEP = 32


@dataclass(frozen=True)
class PackedRows:
    """Rows of tokens as one sequence in which shared prefixes stand once.

    token_ids, positions: (tokens). attention_mask: (tokens, tokens), True where a token may look:
    at itself and at what precedes it in its rows. row_indices: for each row, where its tokens stand
    in the sequence. What fills the sequence up belongs to no row.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    attention_mask: torch.Tensor
    row_indices: list[list[int]]

    def inputs(self) -> dict[str, torch.Tensor]:
        """What a causal model reads: `input_ids` and `position_ids` (1, tokens), `attention_mask`
        (1, 1, tokens, tokens)."""
        return {
            "input_ids": self.token_ids[None],
            "position_ids": self.positions[None],
            "attention_mask": self.attention_mask[None, None],
        }


def pack_rows(rows: Iterable[Sequence[int]], multiple_of: int = TOKENS_STEP) -> PackedRows:
    """Packs rows of token ids as a tree: a causal model gives each token the state that it has in
    its row alone, and reads a shared prefix (a system message, a question with four answers) once.

    multiple_of: the sequence is filled up to a multiple of so many tokens, by tokens that only look
    at each other.

    >>> packed = pack_rows([[5, 7, 8], [5, 7, 9]], multiple_of=1)
    >>> packed.token_ids.tolist(), packed.row_indices
    ([5, 7, 8, 9], [[0, 1, 2], [0, 1, 3]])
    """
    token_ids = []
    positions = []
    parents = []
    row_indices = []
    index_by_node = {}
    for row in rows:
        indices = []
        parent = -1
        for position, token in enumerate(row):
            index = index_by_node.setdefault((parent, token), len(token_ids))
            if index == len(token_ids):
                token_ids.append(token)
                positions.append(position)
                parents.append(parent)
            indices.append(index)
            parent = index
        row_indices.append(indices)
    for position in range(-len(token_ids) % multiple_of):
        parents.append(len(token_ids) - 1 if position else -1)
        positions.append(position)
        token_ids.append(token_ids[0])
    attention_mask = torch.eye(len(token_ids), dtype=torch.bool)
    for index, parent in enumerate(parents):
        if parent >= 0:
            attention_mask[index] |= attention_mask[parent]
    return PackedRows(torch.tensor(token_ids), torch.tensor(positions), attention_mask, row_indices)


def pack_batch(rows: list[dict], multiple_of: int = TOKENS_STEP) -> dict[str, torch.Tensor]:
    """Rows of `input_ids` and `labels` as one sequence (see `pack_rows`): `input_ids` and
    `position_ids` (1, tokens), `attention_mask` (1, 1, tokens, tokens), `logits_to_keep` (answer
    tokens) and `labels`, those tokens after one IGNORED: the Trainer, which counts them, takes the
    first for one that nothing predicts. `logits_to_keep` is filled up as the sequence is, and its
    labels by IGNORED.

    Every row's states and gradients are those it would have alone. Logits are asked for only where
    the next token is supervised: over a large vocabulary the others cost a third of a step.
    """
    packed = pack_rows((row["input_ids"] for row in rows), multiple_of)
    keep = []
    labels = []
    for row, indices in zip(rows, packed.row_indices, strict=True):
        for position, label in enumerate(row["labels"]):
            if position and label != IGNORED:
                keep.append(indices[position - 1])  # the state before a token predicts it
                labels.append(label)
    filling = -len(keep) % multiple_of
    keep += [0] * filling
    labels += [IGNORED] * filling
    return {
        **packed.inputs(),
        "logits_to_keep": torch.tensor(keep),
        "labels": torch.tensor([IGNORED, *labels]),
    }


def count_learned(labels: torch.Tensor) -> int:
    """How many of the labels of a packed batch are learned."""
    return int((labels != IGNORED).sum())


def answer_loss(
    outputs: object, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross entropy per supervised token of what `pack_batch` asks for; over the whole step's
    tokens where the Trainer counts them."""
    logits = outputs.logits[0].float()
    total = nn.functional.cross_entropy(logits, labels[1:], reduction="sum", ignore_index=IGNORED)
    return total / (count_learned(labels) if num_items_in_batch is None else num_items_in_batch)

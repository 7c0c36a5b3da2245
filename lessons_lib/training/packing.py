"""Rows of tokens as one sequence in which shared beginnings stand once (tree attention), and its
loss.

Contract: every row has the states and gradients that it would have alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lessons_lib.training.conversations import IGNORED


@dataclass(frozen=True)
class FlatRows:
    """Rows of tokens as one sequence in which what rows begin with in common stands once.

    `tokens` and `positions` (tokens); `visible` (tokens, tokens), True where a token may look: at
    itself and at what precedes it in its rows; `paths`, each row's places in the sequence.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    paths: list[list[int]]

    def inputs(self) -> dict[str, torch.Tensor]:
        """What a causal model reads: `input_ids` and `position_ids` (1, tokens), `attention_mask`
        (1, 1, tokens, tokens)."""
        mask = self.visible[None, None]
        return {
            "input_ids": self.tokens[None],
            "position_ids": self.positions[None],
            "attention_mask": mask,
        }


def flatten_rows(rows: Iterable[Sequence[int]]) -> FlatRows:
    """Lays rows of tokens out as a tree: a causal model gives each token the state it has in its
    row alone, without padding, and reads shared beginnings (a system message, a question with four
    answers) once."""
    tokens = []
    positions = []
    parents = []
    paths = []
    places = {}
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


def flatten_batch(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Rows of `input_ids` and `labels` as one sequence (see `flatten_rows`): `input_ids` and
    `position_ids` (1, tokens), `attention_mask` (1, 1, tokens, tokens), `logits_to_keep` (answer
    tokens) and `labels`, those tokens after one IGNORED: the Trainer, which counts them, takes the
    first for one that nothing predicts.

    Every row's states and gradients are those it would have alone. Logits are asked for only where
    the next token is supervised: over a large vocabulary the others cost a third of a step.
    """
    flat = flatten_rows(row["input_ids"] for row in rows)
    supervised = [
        (path[place - 1], label)  # the state before a token predicts it
        for row, path in zip(rows, flat.paths, strict=True)
        for place, label in enumerate(row["labels"])
        if place and label != IGNORED
    ]
    keep, labels = torch.tensor(supervised).T
    return {
        **flat.inputs(),
        "logits_to_keep": keep,
        "labels": nn.functional.pad(labels, (1, 0), value=IGNORED),
    }


def answer_loss(
    outputs: object, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross entropy a supervised token of what `flatten_batch` asks for; over the whole step's
    tokens where the Trainer counts them."""
    total = nn.functional.cross_entropy(outputs.logits[0].float(), labels[1:], reduction="sum")
    return total / (len(labels) - 1 if num_items_in_batch is None else num_items_in_batch)

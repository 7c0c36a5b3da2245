"""Question–answer examples: rendered, masked, and put into batches.

Contract: prompts are rendered by `decoders.render_messages` alone, for training and for asking; what is
supervised is decided by counting tokens, never by searching for text. The end of the answer is supervised,
so that generation learns to stop. It trains nothing.
"""

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from lessons_lib.data.batches import flatten_rows
from lessons_lib.data.facts import ASK_TERM, Dialog, ask, read_dialogs
from lessons_lib.decoders import render_messages
from lessons_lib.errors import DataError

__all__ = [
    "ASK_TERM",
    "IGNORED",
    "DataError",
    "Dialog",
    "answer_loss",
    "ask",
    "check_labels",
    "encode_dialogs",
    "flatten_batch",
    "read_dialogs",
]
IGNORED = -100  # the label that PyTorch's cross entropy leaves out


def encode_dialogs(dialogs: list[Dialog], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Dataset:
    """Rows of `input_ids` and `labels`, equally long; labels are IGNORED but on the answer and its end.

    Raises DataError for a row whose answer does not fit: cut off, it would teach never to stop.
    """
    prompts = [render_messages(tokenizer, dialog.turns[:-1]) for dialog in dialogs]
    before = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    after = tokenizer([dialog.answer for dialog in dialogs], add_special_tokens=False)["input_ids"]
    rows = []
    for number, (prompt, answer) in enumerate(zip(before, after, strict=True), 1):
        if len(prompt) + len(answer) >= max_tokens:
            raise DataError(
                f"Example {number} has {len(prompt)} + {len(answer) + 1} tokens, and {max_tokens} are "
                f"allowed: {dialogs[number - 1].question[:60]!r}. Remedy: shorten it, or raise max_tokens."
            )
        answer = [*answer, tokenizer.eos_token_id]
        rows.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
    return Dataset.from_list(rows)


def check_labels(rows: Dataset) -> None:
    """Raises DataError for a row without a supervised token: its loss would be 0 or nan."""
    for number, labels in enumerate(rows["labels"], 1):
        if all(label == IGNORED for label in labels):
            raise DataError(
                f"Row {number} has no supervised token: all {len(labels)} labels are {IGNORED}. Remedy: give "
                "it an answer, or delete the row."
            )


def flatten_batch(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Rows of `input_ids` and `labels` as one sequence (see `flatten_rows`): `input_ids` and `position_ids`
    (1, tokens), `attention_mask` (1, 1, tokens, tokens), `logits_to_keep` (answer tokens) and `labels`, those
    tokens after one IGNORED: the Trainer, which counts them, takes the first for one that nothing predicts.

    Every row's states and gradients are those it would have alone. Logits are asked for only where the next
    token is supervised: over a large vocabulary the others cost a third of a step.
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
    """Cross entropy a supervised token of what `flatten_batch` asks for; over the whole step's tokens where
    the Trainer counts them."""
    total = nn.functional.cross_entropy(outputs.logits[0].float(), labels[1:], reduction="sum")
    return total / (len(labels) - 1 if num_items_in_batch is None else num_items_in_batch)

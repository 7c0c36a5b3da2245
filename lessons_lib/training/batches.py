"""Texts as token rows, and rows as batches: tokenized, padded, grouped by length.

Contract: rows keep their order unless they are sampled for training; padding is masked. It reads no
files.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase


def tokenize_reviews(
    dataset: Dataset | DatasetDict, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Dataset | DatasetDict:
    """The same rows as `input_ids` (at most `max_tokens` each, unpadded) and `labels`."""

    def encode(batch: dict) -> dict:
        """A batch of rows, tokenized."""
        ids = tokenizer(batch["text"], truncation=True, max_length=max_tokens)["input_ids"]
        return {"input_ids": ids, "labels": batch["label"]}

    columns = (
        dataset["train"].column_names if isinstance(dataset, DatasetDict) else dataset.column_names
    )
    return dataset.map(encode, batched=True, remove_columns=columns, desc=None)


def count_tokens(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The number of tokens of every text (texts), nothing cut off."""
    token_ids = tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
    return np.array([len(row) for row in token_ids])


def describe_truncation(lengths: np.ndarray, max_tokens: int) -> str:
    """What is lost when texts of those lengths (tokens) are cut at `max_tokens`.

    >>> describe_truncation(np.array([10, 20, 30, 140]), 120)
    '1 of 4 texts (25.0%) are longer than 120 tokens; 10.0% of all tokens are cut off.'
    """
    longer = int((lengths > max_tokens).sum())
    lost = np.maximum(lengths - max_tokens, 0).sum() / lengths.sum()
    return (
        f"{longer:,} of {len(lengths):,} texts ({longer / len(lengths):.1%}) are longer than "
        f"{max_tokens} tokens; {lost:.1%} of all tokens are cut off."
    )


def choose_max_tokens(lengths: np.ndarray, most: int, share: float = 0.95) -> int:
    """A length at which at least `share` of the texts are whole: a multiple of 32 tokens, and
    `most`, what the model can read, at the utmost.

    >>> choose_max_tokens(np.array([10, 20, 30, 140]), most=512)
    160
    """
    wanted = np.quantile(lengths, share, method="higher")
    return int(min(most, 32 * np.ceil(wanted / 32)))


def cut_into_parts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[str], np.ndarray]:
    """Long texts as parts of at most `max_tokens` tokens, special ones included, one behind the
    other; and for each part the number of its text (parts). A text that fits is one part.

    For texts that are longer than a model can read: classify the parts, and average the
    probabilities of those that belong together.
    """
    room = max_tokens - tokenizer.num_special_tokens_to_add()
    parts = []
    owners = []
    for number, text in enumerate(texts):
        places = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        start = 0
        while start < len(places) or not start:
            end = _find_word_end(places, start, start + room)
            parts.append(text[places[start][0] : places[end - 1][1]] if places else text)
            owners.append(number)
            start = end
    return parts, np.array(owners)


def _find_word_end(places: list[tuple[int, int]], start: int, end: int) -> int:
    """The last place up to `end` at which a word begins, so that none is cut; `end` itself where
    there is no such place. places: where every token begins and ends in the text."""
    if end >= len(places):
        return max(len(places), 1)
    for place in range(end, start, -1):
        if places[place][0] > places[place - 1][1]:
            return place
    return end


def find_pad_id(model: nn.Module) -> int:
    """The token by which a model's rows are filled up. It is masked, so where a model names none
    any will do.
    """
    pad_id = model.config.pad_token_id
    return pad_id if pad_id is not None and pad_id >= 0 else 0


# Rows are padded to a multiple of so many tokens. oneDNN prepares every matrix product for its
# shape and keeps what it prepared: over three epochs of 2,000 snippets in bf16, some 60 lengths
# held 1.5 GB, and eight of them 1.0 GB in 4 % less time. GPUs like such lengths as well, and what a
# model can read at the utmost is such a number (512, 1,024, …).
TOKENS_STEP = 8


def pad_batch(
    rows: list[dict], pad_id: int, multiple_of: int = TOKENS_STEP
) -> dict[str, torch.Tensor]:
    """Rows of `input_ids` (and `labels`) as tensors (batch, tokens), padded to the longest one's
    length, rounded up to a multiple of `multiple_of` tokens.

    >>> pad_batch([{"input_ids": [5, 6]}, {"input_ids": [7]}], pad_id=0, multiple_of=4)["input_ids"]
    tensor([[5, 6, 0, 0],
            [7, 0, 0, 0]])
    """
    ids = [torch.as_tensor(row["input_ids"]) for row in rows]
    masks = [torch.ones_like(row) for row in ids]
    longest = max(len(row) for row in ids)
    filling = (0, -longest % multiple_of)
    padded = pad_sequence(ids, batch_first=True, padding_value=pad_id)
    mask = pad_sequence(masks, batch_first=True)
    batch = {
        "input_ids": nn.functional.pad(padded, filling, value=pad_id),
        "attention_mask": nn.functional.pad(mask, filling),
    }
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    return batch


def cut_rows(rows: list[dict], most_tokens: int) -> list[list[dict]]:
    """The rows of a batch as pieces, one behind the other and as equal in number as can be, so that
    none has more than `most_tokens` tokens if all rows were as long as the longest; a single row is
    never cut.

    >>> rows = [{"input_ids": [0] * 384}] * 10
    >>> [len(piece) for piece in cut_rows(rows, most_tokens=1_600)]
    [3, 4, 3]
    """
    longest = max(len(row["input_ids"]) for row in rows)
    rows_at_once = max(1, most_tokens // longest)
    pieces = -(-len(rows) // rows_at_once)
    bounds = np.linspace(0, len(rows), pieces + 1).round().astype(int)
    return [rows[start:end] for start, end in pairwise(bounds)]


CHUNK_BATCHES = 32  # rows are sorted by length within chunks of this many batches


class LengthBucketSampler(Sampler[int]):
    """Row numbers in an order whose consecutive batches hold rows of like length.

    The order depends on seed and epoch alone, so a run resumed in mid-epoch continues in it. Only
    for training: evaluation keeps the order of its rows.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        chunk = self.batch_size * CHUNK_BATCHES
        chunks = [order[start : start + chunk] for start in range(0, len(order), chunk)]
        order = np.concatenate([c[np.argsort(self.lengths[c], kind="stable")] for c in chunks])
        whole = len(order) - len(order) % self.batch_size
        batches = order[:whole].reshape(-1, self.batch_size)
        yield from random.permutation(batches).ravel().tolist()
        yield from order[whole:].tolist()  # the short batch stays last

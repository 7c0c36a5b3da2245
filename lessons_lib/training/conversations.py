"""Conversations as training rows: rendered, masked, and checked for length.

Contract: prompts are rendered by `render_messages` alone, for training and for asking;
what is supervised is decided by counting tokens, never by searching for text. The end of the answer
is supervised, so that generation learns to stop. An example is never cut: one that is too long is
refused or left out aloud. It trains nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from lessons_lib.data.encodings import count, replace_surrogates
from lessons_lib.data.facts import Conversation
from lessons_lib.data.phrasings import Phrasings, phrase_terms
from lessons_lib.errors import DataError, SettingError
from lessons_lib.models.decoder import render_messages

IGNORED = -100  # the label that PyTorch's cross entropy leaves out
TOO_LONG = ("error", "leave-out")  # what may be done with an example that is too long
SHOWN_LONG = 5  # examples that are named; more are counted
SHORTEN = "shorten them, delete them, or allow more tokens."


@dataclass(frozen=True)
class _Example:
    """The tokens of a conversation: before the answer, and the answer with its end."""

    conversation: Conversation
    number: int
    prompt: list[int]
    answer: list[int]

    @property
    def tokens(self) -> int:
        """All of them."""
        return len(self.prompt) + len(self.answer)

    def describe(self) -> str:
        """Where it stands, how long it is, and how its question begins."""
        place = self.conversation.place or f"example {self.number}"
        question = " ".join(self.conversation.question.split())
        return f"{place}: {len(self.prompt)} + {len(self.answer)} tokens, {question[:60]!r}"


def encode_conversations(
    conversations: list[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    *,
    too_long: str = "error",
    remedy: str = SHORTEN,
) -> Dataset:
    """Rows of `input_ids` and `labels`, equally long; labels are IGNORED but on the answer and its
    end.

    An example of more than `max_tokens` tokens is not cut: that would teach never to stop.
    too_long: "error" raises one DataError that names all of them and ends with `remedy`;
    "leave-out" leaves them out and prints which, and is an error only where none is left.
    """
    examples = list(_tokenize(conversations, tokenizer))
    fitting = _keep_fitting(examples, max_tokens, too_long, remedy)
    rows = []
    for example in fitting:
        labels = [IGNORED] * len(example.prompt) + example.answer
        rows.append({"input_ids": example.prompt + example.answer, "labels": labels})
    return Dataset.from_list(rows)


def find_fitting(
    conversations: list[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    *,
    too_long: str = "leave-out",
    remedy: str = SHORTEN,
) -> list[int]:
    """The numbers, from 0, of the conversations of at most `max_tokens` tokens; `too_long` and
    `remedy` as in `encode_conversations`."""
    examples = list(_tokenize(conversations, tokenizer))
    return [example.number - 1 for example in _keep_fitting(examples, max_tokens, too_long, remedy)]


def _tokenize(
    conversations: list[Conversation], tokenizer: PreTrainedTokenizerBase
) -> Iterable[_Example]:
    prompts = []
    for number, conversation in enumerate(conversations, 1):
        try:
            prompts.append(
                replace_surrogates(render_messages(tokenizer, conversation.messages[:-1]))
            )
        except TemplateError as error:
            raise DataError(
                f"the model's chat template refuses it ({error}).",
                where=conversation.place or f"example {number}",
                remedy="leave system messages out, or take a model whose template knows them.",
            ) from error
    answers = [replace_surrogates(conversation.answer) for conversation in conversations]
    before = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    after = tokenizer(answers, add_special_tokens=False)["input_ids"]
    for number, (conversation, prompt, answer) in enumerate(
        zip(conversations, before, after, strict=True), 1
    ):
        yield _Example(conversation, number, prompt, [*answer, tokenizer.eos_token_id])


def _keep_fitting(
    examples: list[_Example], max_tokens: int, too_long: str, remedy: str
) -> list[_Example]:
    """The examples of at most `max_tokens` tokens. What happens to longer ones, `too_long` says."""
    if too_long not in TOO_LONG:
        raise SettingError(
            f"there is no {too_long!r}.", where="too_long", remedy=f"one of {', '.join(TOO_LONG)}."
        )
    fitting = [example for example in examples if example.tokens <= max_tokens]
    long = [example for example in examples if example.tokens > max_tokens]
    if not long:
        return examples
    summary = (
        f"{len(long):,} of {count(len(examples), 'example')} have more than {max_tokens} tokens"
    )
    lines = [f"   {example.describe()}" for example in long[:SHOWN_LONG]]
    if len(long) > SHOWN_LONG:
        lines.append(f"   and {len(long) - SHOWN_LONG:,} more")
    if too_long == "error" or not fitting:
        raise DataError("\n".join([f"{summary}:", *lines, ""]), remedy=remedy)
    print("\n".join([f"{summary} and are left out:", *lines]))
    return fitting


def check_labels(rows: Dataset) -> None:
    """Raises DataError for a row without a supervised token: its loss would be 0 or nan."""
    for number, labels in enumerate(rows["labels"], 1):
        if all(label == IGNORED for label in labels):
            raise DataError(
                f"Row {number} has no supervised token: all {len(labels)} labels are {IGNORED}.",
                remedy="give it an answer, or delete the row.",
            )


def drop_long_terms(
    terms: list[Conversation],
    phrasings: Phrasings,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    **options: str,
) -> list[Conversation]:
    """The terms that fit into `max_tokens` tokens in the longest training phrasing; the others are
    left out aloud, or as `options` say (those of `find_fitting`). What is left out here is neither
    taught nor asked, whichever group it would have come to."""
    lengths = [len(token_ids) for token_ids in tokenizer(list(phrasings.training))["input_ids"]]
    longest = phrasings.training[int(np.argmax(lengths))]
    asked = phrase_terms(terms, [longest], 1)
    return [terms[number] for number in find_fitting(asked, tokenizer, max_tokens, **options)]

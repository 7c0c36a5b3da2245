"""Question–answer examples: read from a file of the reader's own, rendered, masked, and put into batches.

Contract: prompts are rendered by `decoders.render_messages` alone, for training and for asking; what is
supervised is decided by counting tokens, never by searching for text. The end of the answer is supervised,
so that generation learns to stop. It trains nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from lessons_lib.data import DataError, decode_file, flatten_rows, read_json_rows
from lessons_lib.decoders import render_messages

IGNORED = -100  # the label that PyTorch's cross entropy leaves out
FORMATS = (("term", "definition"), ("question", "answer"), ("prompt", "response"), ("instruction", "output"))
ROLES = ("system", "user", "assistant")
ASK_TERM = "What is {}?"


@dataclass(frozen=True)
class Dialog:
    """What was said, as (role, content), up to and with the answer to learn; `term` where there is one."""

    turns: tuple[tuple[str, str], ...]
    term: str = ""

    @property
    def question(self) -> str:
        """What was said last before the answer."""
        return self.turns[-2][1]

    @property
    def answer(self) -> str:
        """The last turn's content."""
        return self.turns[-1][1]


def ask(question: str, answer: str, term: str = "") -> Dialog:
    """A dialog of one question and its answer."""
    return Dialog((("user", question), ("assistant", answer)), term)


def read_dialogs(source: str | Path) -> list[Dialog]:
    """The examples of a JSON or JSONL file of objects.

    Each has `term` and `definition`, `question` and `answer`, `prompt` and `response`, `instruction`
    (perhaps `input`) and `output`, or chat `messages`, of which every answer becomes an example. Raises
    DataError, which names file, row and remedy.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"{path} does not exist. Remedy: check the path; give a .json or .jsonl file.")
    rows = read_json_rows(path, decode_file(path))
    if not rows:
        raise DataError(f"{path} holds no examples. Remedy: see data/samples/medical_terms.json.")
    return [dialog for where, row in rows for dialog in _read_row(row, where)]


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


# --- reading --------------------------------------------------------------------------------------


def _read_row(row: dict, where: str) -> list[Dialog]:
    if "messages" in row:
        return _read_messages(row["messages"], where)
    for asked, answered in FORMATS:
        if asked in row and answered in row:
            question, answer = _read_text(row, asked, where), _read_text(row, answered, where)
            if asked == "term":
                return [ask(ASK_TERM.format(question), answer, question)]
            extra = row.get("input") if asked == "instruction" else ""
            return [ask(f"{question}\n\n{extra}" if extra else question, answer)]
    names = "; ".join(" and ".join(pair) for pair in (*FORMATS, ("messages",)))
    raise DataError(
        f"{where} has {', '.join(map(str, row)) or 'no fields'}. Remedy: name the fields {names}."
    )


def _read_messages(messages: object, where: str) -> list[Dialog]:
    turns = []
    for number, message in enumerate(messages if isinstance(messages, list) else [], 1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise DataError(f"{where}, message {number}: role {role!r}. Remedy: one of {', '.join(ROLES)}.")
        turns.append((role, _read_text(message, "content", f"{where}, message {number}")))
    if len(turns) < 2 or turns[-1][0] != "assistant" or turns[0][0] == "assistant":
        raise DataError(f"{where}: messages must begin with a question and end with the assistant's answer.")
    ends = [n for n, (role, _) in enumerate(turns, 1) if role == "assistant"]
    return [Dialog(tuple(turns[:end])) for end in ends]


def _read_text(row: dict, name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {name} is {value!r}, not a text. Remedy: fill it in or delete the row.")
    return value.strip()

"""Conversations in the formats of chat data sets, converted to one: turns of (role, content).

Contract: a system message comes first, if there is one; then user and assistant alternate, and the
assistant's answer comes last. Anything else is refused with the message's number and a remedy; no
message is reordered, joined or cut. Errors name no file: whoever reads the file adds the row.
"""

import json
import re

import pandas as pd

from lessons_lib.data.encodings import replace_surrogates
from lessons_lib.data.rows import show
from lessons_lib.errors import DataError

Messages = tuple[tuple[str, str], ...]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
TOOLS = ("tool", "function", "function_call", "tool_call", "observation", "ipython")
ROLE_FIELDS = ("role", "from")
CONTENT_FIELDS = ("content", "value", "text")

# Marks that chat templates write. Inside a text, a tokenizer would read them as control tokens.
CONTROL_MARKS = (
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<|user|>",
    "<|assistant|>",
    "<start_of_turn>",
    "<end_of_turn>",
)
# Marks that people write too, so they count only where one text holds a whole conversation.
PLAIN_MARKS = (
    "### Instruction:",
    "### Response:",
    "### Human:",
    "### Assistant:",
    "USER:",
    "ASSISTANT:",
)
UNRENDERED = 'give the bare turns: {"messages": [{"role": "user", "content": …}, …]}.'
TWO_FIELDS = "give question and answer in two fields, called question and answer."
SYSTEM_BLOCK = re.compile(r"<<SYS>>(.*?)<</SYS>>", re.DOTALL)


class EmptyText(DataError):
    """A text is missing. Its row teaches nothing and can be left out."""


def read_messages(messages: object) -> Messages:
    """The turns of a list of messages: `role` and `content`, or ShareGPT's `from` and `value`.

    Raises DataError for other roles or another order, EmptyText for a message without text.

    >>> read_messages([{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}])
    (('user', 'Why?'), ('assistant', 'So.'))
    """
    if is_missing(messages) or messages == []:
        raise EmptyText("there is no message.", remedy="delete the row.")
    if isinstance(messages, str):
        messages = _parse_messages(messages)
    if not isinstance(messages, list):
        raise DataError(
            f"the messages are {show(messages)}, not a list.",
            remedy='[{"role": "user", "content": …}, {"role": "assistant", "content": …}].',
        )
    turns = tuple(_read_message(message, number) for number, message in enumerate(messages, 1))
    check_order(turns)
    return turns


def _parse_messages(text: str) -> object:
    """The list that a table's cell holds as JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"the messages are a text and no JSON: {show(text)}.",
            remedy='save as JSON lines: frame.to_json("chat.jsonl", orient="records", lines=True).',
        ) from error


def _read_message(message: object, number: int) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise DataError(
            f"message {number} is {show(message)}.", remedy='{"role": …, "content": …}.'
        )
    fields = {str(name).strip().lower(): value for name, value in message.items()}
    filled = {name: value for name, value in fields.items() if not is_missing(value)}
    role = next((filled[name] for name in ROLE_FIELDS if name in filled), None)
    content = next((filled[name] for name in CONTENT_FIELDS if name in filled), None)
    role = _read_role(role, number)
    if filled.get("tool_calls") or filled.get("function_call"):
        raise _refuse_tools(f"message {number} calls a tool.")
    return role, read_field(_join_parts(content, number), f"message {number}")


def _read_role(role: object, number: int) -> str:
    name = str(role).strip().lower()
    if name in TOOLS:
        raise _refuse_tools(f"message {number} is a tool's ({show(role)}).")
    if name not in ROLES:
        raise DataError(
            f"message {number}: role {show(role)}.", remedy="one of system, user, assistant."
        )
    return ROLES[name]


def _refuse_tools(what: str) -> DataError:
    return DataError(what, remedy="leave conversations with tools out: here only texts are taught.")


def _join_parts(content: object, number: int) -> object:
    """The text of a content in parts, [{"type": "text", "text": …}]; other contents unchanged."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type", "text") != "text":
            raise DataError(
                f"message {number} has a part that is no text: {show(part)}.",
                remedy="leave conversations with pictures or sound out.",
            )
        texts.append(read_field(part.get("text"), f"message {number}"))
    return "\n".join(texts)


def check_order(turns: Messages) -> None:
    """Raises DataError unless the roles are system (optional), user, assistant, …, assistant."""
    start = 1 if turns[0][0] == "system" else 0
    for position, (role, _) in enumerate(turns[start:]):
        number = start + position + 1
        expected = "assistant" if position % 2 else "user"
        if role == expected:
            continue
        if role == "system":
            raise DataError(
                f"message {number} is the system's.",
                remedy="put the system message first, and only one.",
            )
        if number == 1 + start:
            raise DataError(
                f"message {number} is the assistant's, and nobody has asked.",
                remedy="begin with the user's question (a system message may stand before it).",
            )
        raise DataError(
            f"message {number} is the {role}'s, as is the one before.",
            remedy="join the two messages, or delete one.",
        )
    if turns[-1][0] != "assistant":
        raise DataError(
            f"message {len(turns)}, the last, is the {turns[-1][0]}'s.",
            remedy="end with the assistant's answer.",
        )


def read_rendered(text: object) -> Messages:
    """The turns of a conversation rendered for Llama-2: `[INST] question [/INST] answer`, repeated.

    A `<<SYS>>` block in the first question becomes the system message. Raises DataError for the
    format of another chat template and for a text that is no conversation, EmptyText for a blank
    text.

    >>> read_rendered("<s>[INST] Why? [/INST] So. </s>")
    (('user', 'Why?'), ('assistant', 'So.'))
    """
    if is_missing(text):
        raise EmptyText("the text is empty.", remedy="fill it in or delete the row.")
    if not isinstance(text, str):
        raise DataError(f"the text is {show(text)}.", remedy=TWO_FIELDS)
    if "[INST]" not in text:
        marks = [mark for mark in (*CONTROL_MARKS, *PLAIN_MARKS) if mark in text]
        if marks:
            raise DataError(
                f"the text is rendered for another model ({marks[0]}).", remedy=UNRENDERED
            )
        raise DataError("a text alone has no answer.", remedy=TWO_FIELDS)
    before, *exchanges = text.replace("<s>", " ").replace("</s>", " ").split("[INST]")
    if before.strip():
        raise DataError(
            f"{show(before.strip())} stands before the first [INST].", remedy=UNRENDERED
        )
    turns = []
    for number, exchange in enumerate(exchanges, 1):
        if exchange.count("[/INST]") != 1:
            raise DataError(f"[INST] {number} has no [/INST] of its own.", remedy=UNRENDERED)
        question, answer = exchange.split("[/INST]")
        if number == 1:
            block = SYSTEM_BLOCK.search(question)
            if block and block[1].strip():
                turns.append(("system", read_field(block[1], "the system message")))
            question = SYSTEM_BLOCK.sub(" ", question)
        turns.append(("user", read_field(question, f"question {number}")))
        turns.append(("assistant", read_field(answer, f"answer {number}")))
    return tuple(turns)


def read_field(value: object, name: str) -> str:
    """A field's text: stripped, with halves of surrogate pairs replaced by U+FFFD.

    name: what errors call the field. Raises EmptyText for an empty field (also NaN, and "nan" as
    pandas writes it), and DataError for another type or for the marks of a chat template.
    """
    if is_missing(value):
        raise EmptyText(f"{name} is empty.", remedy="fill it in or delete the row.")
    if not isinstance(value, str):
        raise DataError(
            f"{name} is {show(value)}, not a text.", remedy="write it as a text, in quotes."
        )
    marks = [mark for mark in CONTROL_MARKS if mark in value]
    if marks:
        raise DataError(f"{name} holds a chat template's mark ({marks[0]}).", remedy=UNRENDERED)
    return replace_surrogates(value).strip()


def is_missing(value: object) -> bool:
    """Whether a value is missing: None, NaN, a blank text, or the text "nan"."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "nan")
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))

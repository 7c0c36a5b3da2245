"""Questions with their answers, read from a file of the reader's own.

Contract: a file is read whole or refused with an error that names file and row. It renders no prompt and
tokenizes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from lessons_lib.data.files import decode_file, read_json_rows
from lessons_lib.errors import DataError

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

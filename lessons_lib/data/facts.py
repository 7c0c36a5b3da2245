"""Questions with their answers, read from a file of the reader's own.

Contract: every example of a file is read as it stands. A row with an empty question or answer
teaches nothing and is left out aloud; for anything else that cannot be read the whole file is
refused, with one error that names the bad rows. What was understood of the file is printed. Nothing
is rendered or tokenized here.
"""

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lessons_lib.data.chats import (
    EmptyText,
    Turns,
    is_missing,
    read_field,
    read_messages,
    read_rendered,
)
from lessons_lib.data.columnar import is_saved_dataset
from lessons_lib.data.encodings import count
from lessons_lib.data.files import Rows, list_files, open_path, read_rows, refuse_rows
from lessons_lib.data.rows import (
    read_without_header,
    show,
    show_names,
    show_path,
    show_places,
    show_text,
)
from lessons_lib.errors import DataError
from lessons_lib.paths import SAMPLES

ASK_TERM = "What is {}?"

# Pairs of field names, the likelier first. Where a row has several pairs, the first counts.
PAIRS = (
    ("term", "definition"),
    ("word", "meaning"),
    ("question", "answer"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
)
# Names that are understood in other pairs too, where a row has one question and one answer.
TERMS = ("term", "word")
DEFINITIONS = ("definition", "meaning")
QUESTIONS = ("question", "prompt", "instruction", "query", "front", "q")
ANSWERS = ("answer", "response", "completion", "output", "reply", "back", "a")
INPUTS = ("input", "context")  # what the question is about; may be empty
SYSTEMS = ("system", "system_prompt")  # may be empty
CHATS = ("messages", "conversations", "conversation")
RENDERED = "text"
FIELDS = {*TERMS, *DEFINITIONS, *QUESTIONS, *ANSWERS, *INPUTS, *SYSTEMS, *CHATS, RENDERED}

# SQuAD's answers in a cell of a table
PRINTED_ANSWERS = re.compile(r"\s*\[?\s*\{\s*['\"](text|answer_start)['\"]\s*:")
NO_INPUT = ("none", "null", "<na>", "n/a", "<noinput>")  # texts that stand for an empty input
NAME_FIELDS = (
    "name the fields term and definition; question and answer; prompt and response; "
    "instruction and output; or messages."
)
READABLE = "a file of questions and answers: .json, .jsonl, .csv, .tsv or .parquet"
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")  # files that may hold facts
SHOWN_EXAMPLE = 60  # characters of a printed question or answer


@dataclass(frozen=True)
class Dialog:
    """What was said, as (role, content), up to and with the answer to learn.

    term: what the question is about, where the source says so. place: where the example stands,
    such as "facts.csv, line 7"; it does not count when examples are compared.
    """

    turns: Turns
    term: str = ""
    place: str = field(default="", compare=False)

    @property
    def question(self) -> str:
        """What the user said last."""
        contents = [content for role, content in self.turns if role == "user"]
        return contents[-1]

    @property
    def answer(self) -> str:
        """The last turn's content."""
        return self.turns[-1][1]


def ask(question: str, answer: str, term: str = "") -> Dialog:
    """A dialog of one question and its answer."""
    return Dialog((("user", question), ("assistant", answer)), term)


def read_dialogs(source: str | Path, *, quiet: bool = False) -> list[Dialog]:
    """The examples of a file: JSON, JSON lines, CSV, TSV or Parquet.

    Its rows have `term` and `definition`, `question` and `answer`, `prompt` and `response`,
    `instruction` (perhaps `input` or `context`) and `output`, chat `messages`, of which every
    answer becomes an example, ShareGPT's `conversations`, SQuAD's `paragraphs`, or a `text`
    rendered for Llama-2. Capitals and spaces around names do not count; more names are in `PAIRS`
    and below it.

    A row with an empty question or answer is left out. If any other row cannot be read, DataError
    names file, rows and remedy. What was understood and left out, duplicates and contradictions are
    printed, but not where `quiet`, nor of the course's own samples.
    """
    path = _find_file(source)
    rows = _split_articles(_name_columns(read_rows(path)))
    report = _Report()
    dialogs = []
    for row, place in zip(rows.objects, rows.places, strict=True):
        try:
            form = _choose_form(row)
            examples = _read_row(row, form)
        except EmptyText:
            report.empty.append(place)
        except DataError as problem:
            report.problems.append((place, problem))
        else:
            report.add(row, form, len(examples))
            dialogs += [replace(example, place=place) for example in examples]
    report.refuse(path, len(rows.objects))
    if not dialogs:
        raise DataError(
            f"no question with an answer in {count(len(rows.objects), 'row')}.",
            where=show_path(path),
            remedy="fill in the answers.",
        )
    if not quiet and not path.resolve().is_relative_to(SAMPLES):
        report.show(path, rows.notes, dialogs)
    return dialogs


# --- the file -------------------------------------------------------------------------------------


def _find_file(source: str | Path) -> Path:
    """The path of a file, or of a folder that `save_to_disk` wrote. Raises DataError for other
    folders, and for what is not there."""
    path = open_path(source)
    if not path.is_dir() or is_saved_dataset(path):
        return path
    files = [file for file in list_files(path).files if file.suffix.lower() in ENDINGS]
    remedy = (
        f"give one of its files, such as {show_path(files[0])}." if files else f"give {READABLE}."
    )
    raise DataError("is a folder.", where=show_path(path), remedy=remedy)


def _name_columns(rows: Rows) -> Rows:
    """A table of two columns whose first line is a question already, with names for its columns."""
    if len(rows.header) != 2 or not rows.header[0].strip().endswith("?"):
        return rows
    rows = read_without_header(rows)
    objects = [dict(zip(("question", "answer"), row.values(), strict=True)) for row in rows.objects]
    return replace(rows, objects=objects)


def _split_articles(rows: Rows) -> Rows:
    """SQuAD's articles and paragraphs as a row a question; other rows as they are."""
    objects = []
    places = []
    for row, place in zip(rows.objects, rows.places, strict=True):
        for part, place_of_part in _split_article(row, place):
            objects.append(part)
            places.append(place_of_part)
    return replace(rows, objects=objects, places=places)


def _split_article(row: object, place: str) -> Iterator[tuple[dict, str]]:
    """An article (`paragraphs`) or a paragraph (`qas`) as its questions, with their places."""
    if not isinstance(row, dict):
        yield {}, place  # will be named with the other rows that cannot be read
    elif isinstance(row.get("paragraphs"), list):
        for number, paragraph in enumerate(row["paragraphs"], 1):
            yield from _split_article(paragraph, f"{place}, paragraph {number}")
    elif isinstance(row.get("qas"), list):
        for number, question in enumerate(row["qas"], 1):
            fields = question if isinstance(question, dict) else {}
            yield {**fields, "context": row.get("context")}, f"{place}, question {number}"
    else:
        yield row, place


# --- a row ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Form:
    """Which of a row's fields mean what.

    kind: "term", "question", "chat" or "rendered". answer: the field that holds it, or the whole
    chat. question, system: a field's name, or None. inputs: fields that stand after the question.
    unread: all others.
    """

    kind: str
    answer: str
    question: str | None = None
    inputs: tuple[str, ...] = ()
    system: str | None = None
    unread: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What was understood, for the reader."""
        if self.kind == "chat":
            text = f"conversations ← {show(self.answer)}"
        elif self.kind == "rendered":
            text = f"Llama-2 conversations ← {show(self.answer)}"
        else:
            question = " and ".join(show(name) for name in (self.question, *self.inputs))
            text = f"{self.kind} ← {question}, answer ← {show(self.answer)}"
        if self.system is not None:
            text += f", system ← {show(self.system)}"
        return text


def _choose_form(row: dict) -> _Form:
    """Which of a row's fields mean what. Where a file has fields of several kinds, those count that
    are filled in this row."""
    form = _match_fields(tuple(row))
    if not is_missing(row[form.answer]):
        return form
    filled = tuple(name for name, value in row.items() if not is_missing(value))
    try:
        other = _match_fields(filled)
    except DataError:
        return form
    return form if other.kind == "rendered" else other


@functools.lru_cache(maxsize=256)  # most rows of a file have the same fields
def _match_fields(fields: tuple[str, ...]) -> _Form:
    """Which of a row's `fields` mean what. Raises DataError where that is not clear."""
    names = _normalise_names(fields)
    chats = [name for name in CHATS if name in names]
    pair = _find_pair(names)
    system = next((names[name] for name in SYSTEMS if name in names), None)
    if chats:
        form = _Form("chat", names[chats[0]], system=system)
    elif pair:
        question, answer = pair
        if question in TERMS:
            form = _Form("term", names[answer], names[question])
        else:
            inputs = tuple(names[name] for name in INPUTS if name in names and name != question)
            form = _Form("question", names[answer], names[question], inputs, system)
    elif RENDERED in names:
        form = _Form("rendered", names[RENDERED])
    else:
        raise _refuse_fields(fields, names)
    read = {form.question, form.answer, form.system, *form.inputs}
    return replace(form, unread=tuple(name for name in fields if name not in read))


def _normalise_names(fields: tuple[str, ...]) -> dict[str, str]:
    """The file's own field name by its usual one: without capitals, spaces around it, or a plural's
    s.
    """
    names: dict[str, str] = {}
    for field_name in fields:
        name = "_".join(str(field_name).strip().lower().split())
        if name in names and name in FIELDS:
            both = f"{show(names[name])} and {show(field_name)}"
            raise DataError(f"there are two fields {name}: {both}.", remedy="rename one of them.")
        names[name] = field_name
    for name in list(names):
        singular = name.removesuffix("s")
        if name not in FIELDS and singular in FIELDS:
            names.setdefault(singular, names[name])
    return names


def _find_pair(names: dict[str, str]) -> tuple[str, str] | None:
    """The usual names of question and answer, or None where there is not one of each."""
    for question, answer in PAIRS:
        if question in names and answer in names:
            return question, answer
    for kinds in ((TERMS, DEFINITIONS), (QUESTIONS, ANSWERS), (INPUTS[:1], ANSWERS)):
        questions, answers = ([name for name in kind if name in names] for kind in kinds)
        if len(questions) == len(answers) == 1:
            return questions[0], answers[0]
    return None


def _refuse_fields(fields: tuple[str, ...], names: dict[str, str]) -> DataError:
    """What is missing among a row's fields."""
    if "role" in names and "content" in names:
        return DataError(
            "each row is one message.",
            remedy='one conversation a row: {"messages": [{"role": …, "content": …}, …]}.',
        )
    shown = show_names(fields) or "none"
    for question, answer in PAIRS:
        here, missing = (question, answer) if question in names else (answer, question)
        if here in names:
            return DataError(
                f"{here} has no {missing}; the fields are {shown}.",
                remedy=f"name or add the field {missing}.",
            )
    return DataError(f"no question with an answer; the fields are {shown}.", remedy=NAME_FIELDS)


def _read_row(row: dict, form: _Form) -> list[Dialog]:
    """The examples of a row: one, or one for each answer of a conversation."""
    if form.kind == "term":
        term = read_field(row[form.question], form.question)
        return [ask(ASK_TERM.format(term), _read_answer(row, form), term)]
    turns = _read_turns(row, form)
    if form.system is not None and turns[0][0] != "system":
        system = _read_optional(row[form.system], form.system)
        turns = (("system", system), *turns) if system else turns
    ends = [number for number, (role, _) in enumerate(turns, 1) if role == "assistant"]
    return [Dialog(turns[:end]) for end in ends]


def _read_turns(row: dict, form: _Form) -> Turns:
    answer = row[form.answer]
    if form.kind == "chat":
        return read_messages(answer)
    if form.kind == "rendered":
        return read_rendered(answer)
    question = row[form.question]
    # both are messages, as TRL has them
    if isinstance(question, list) and isinstance(answer, list):
        return read_messages([*question, *answer])
    parts = [read_field(question, form.question)]
    parts += [_read_optional(row[name], name) for name in form.inputs]
    text = "\n\n".join(part for part in parts if part)
    return (("user", text), ("assistant", _read_answer(row, form)))


def _read_answer(row: dict, form: _Form) -> str:
    """The answer; the first where a field holds several."""
    answers = _list_answers(row[form.answer])
    return read_field(answers[0] if answers else None, form.answer)


def _list_answers(value: object) -> list:
    """The answers in a field: a text, a list, or SQuAD's {"text": [texts], "answer_start": […]}."""
    if isinstance(value, str) and PRINTED_ANSWERS.match(value):
        value = _parse_answers(value)
    if isinstance(value, dict) and "text" in value:
        value = value["text"]
    if not isinstance(value, list):
        return [value]
    return [item["text"] if isinstance(item, dict) and "text" in item else item for item in value]


def _parse_answers(text: str) -> object:
    """Answers that a table's cell holds as JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"the answers are written as Python shows them: {show(text)}.",
            remedy='save as JSON lines: frame.to_json("facts.jsonl", orient="records", '
            "lines=True).",
        ) from error


def _read_optional(value: object, name: str) -> str:
    """A text that may be missing: then ""."""
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in NO_INPUT):
        return ""
    return read_field(value, name)


# --- what the reader is told ----------------------------------------------------------------------


@dataclass
class _Report:
    """What was understood of a file, row by row.

    forms: how many examples each understanding gave. unread: fields that were not read. several:
    how many rows have more than one answer. empty: places of rows that are left out. problems:
    places and errors of rows that cannot be read.
    """

    forms: Counter = field(default_factory=Counter)
    unread: dict[str, None] = field(default_factory=dict)
    several: int = 0
    empty: list[str] = field(default_factory=list)
    problems: list[tuple[str, DataError]] = field(default_factory=list)

    def add(self, row: dict, form: _Form, examples: int) -> None:
        """Counts a row that was read."""
        self.forms[form.description] += examples
        self.unread |= dict.fromkeys(form.unread)
        if form.kind == "question" and len(set(map(str, _list_answers(row[form.answer])))) > 1:
            self.several += 1

    def refuse(self, path: Path, rows: int) -> None:
        """Raises one DataError for all rows that cannot be read."""
        if not self.problems:
            return
        remedies = list(dict.fromkeys(problem.remedy for _, problem in self.problems))
        reasons = {problem.what for _, problem in self.problems}
        place, problem = self.problems[0]
        # no row is at fault, but the whole file
        if len(reasons) == 1 and len(self.problems) == rows > 1:
            place = show_path(path)
        elif len(self.problems) > 1:
            lines = [(place, problem.what) for place, problem in self.problems]
            refuse_rows(lines, " Or ".join(remedies))
        raise DataError(problem.what, where=place, remedy=problem.remedy) from problem

    def show(self, path: Path, notes: list[str], dialogs: list[Dialog]) -> None:
        """Prints what was read."""
        print(f"{show_path(path.name)}: {'; '.join([*notes, *self.forms])}")
        question = show_text(dialogs[0].question, SHOWN_EXAMPLE)
        answer = show_text(dialogs[0].answer, SHOWN_EXAMPLE)
        print(f"   {count(len(dialogs), 'example')}, such as {question} → {answer}")
        if self.unread:
            print(f"   not read: {show_names(list(self.unread))}")
        if self.several:
            print(f"   {count(self.several, 'row')} with several answers: the first is taken")
        if self.empty:
            places = show_places(self.empty, path)
            print(
                f"   {count(len(self.empty), 'row')} without question or answer left out: {places}"
            )
        _show_repetitions(dialogs)


def _show_repetitions(dialogs: list[Dialog]) -> None:
    """Prints how many examples are there twice, and which questions have answers that differ."""
    answers = defaultdict(set)
    for dialog in dialogs:
        answers[dialog.turns[:-1]].add(dialog.answer)
    repeated = len(dialogs) - sum(len(texts) for texts in answers.values())
    if repeated:
        print(f"   {count(repeated, 'example')} repeated word for word; all are taught")
    differing = [turns[-1][1] for turns, texts in answers.items() if len(texts) > 1]
    if differing:
        questions = count(len(differing), "question")
        print(
            f"   {questions} with answers that differ, such as {show_text(differing[0])}; all are "
            f"taught"
        )

"""Questions with their answers, read from a file of the reader's own.

Contract: every example of a file is read unchanged. A row with an empty question or answer teaches
nothing: it is left out, and counted in a printed line. If any other row cannot be read, the whole
file is refused with one error that names the bad rows. What was understood of the file is printed.
Examples are not rendered or tokenized here.
"""

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lessons_lib.data.chats import (
    EmptyText,
    Messages,
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
# Names that form other pairs too, if a row has one question and one answer.
TERMS = ("term", "word")
DEFINITIONS = ("definition", "meaning")
QUESTIONS = ("question", "prompt", "instruction", "query", "front", "q")
ANSWERS = ("answer", "response", "completion", "output", "reply", "back", "a")
PARAPHRASES = ("wordings", "paraphrases")  # a definition in other words: a list of texts
INPUTS = ("input", "context")  # what the question is about; may be empty
SYSTEMS = ("system", "system_prompt")  # may be empty
CHATS = ("messages", "conversations", "conversation")
RENDERED = "text"
FIELDS = {
    *TERMS,
    *DEFINITIONS,
    *PARAPHRASES,
    *QUESTIONS,
    *ANSWERS,
    *INPUTS,
    *SYSTEMS,
    *CHATS,
    RENDERED,
}

# SQuAD's answers in a table's cell
PRINTED_ANSWERS = re.compile(r"\s*\[?\s*\{\s*['\"](text|answer_start)['\"]\s*:")
NO_INPUT = ("none", "null", "<na>", "n/a", "<noinput>")  # texts that mean an empty input
NAME_FIELDS = (
    "name the fields term and definition; question and answer; prompt and response; "
    "instruction and output; or messages."
)
READABLE = "a file of questions and answers: .json, .jsonl, .csv, .tsv or .parquet"
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")  # files that may hold facts
SHOWN_EXAMPLE = 60  # characters of a printed question or answer


@dataclass(frozen=True)
class Conversation:
    """A training example: messages as (role, content), of which the last is the answer to learn.

    place: where the example comes from, such as "facts.csv, line 7"; comparisons ignore it.
    """

    messages: Messages
    place: str = field(default="", compare=False, kw_only=True)

    @property
    def question(self) -> str:
        """The user's last message."""
        contents = [content for role, content in self.messages if role == "user"]
        return contents[-1]

    @property
    def answer(self) -> str:
        """The last message's content."""
        return self.messages[-1][1]

    @property
    def subject(self) -> str:
        """What the example is about: its question, or a fact's term."""
        return self.question


@dataclass(frozen=True)
class Fact(Conversation):
    """A conversation that asks what `term` means; the answer is the term's definition.

    paraphrases: the definition in other words, if the source has them.

    >>> plum = make_fact("plum", "A fruit.")
    >>> plum.question, plum.answer
    ('What is plum?', 'A fruit.')
    >>> plum.ask_in("Define {}.").question
    'Define plum.'
    """

    term: str
    paraphrases: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The term."""
        return self.term

    def ask_in(self, phrasing: str) -> "Fact":
        """The same fact with its question in another phrasing, with one `{}` for the term."""
        return self.with_messages(phrasing.format(self.term), self.answer)

    def with_messages(self, question: str, answer: str) -> "Fact":
        """The same term with another question and answer."""
        return replace(self, messages=_ask(question, answer))


def make_example(question: str, answer: str) -> Conversation:
    """A conversation of one question and its answer."""
    return Conversation(_ask(question, answer))


def make_fact(term: str, definition: str, paraphrases: Sequence[str] = ()) -> Fact:
    """A fact whose question is "What is …?", with the term, and whose answer is `definition`."""
    return Fact(_ask(ASK_TERM.format(term), definition), term, tuple(paraphrases))


def _ask(question: str, answer: str) -> Messages:
    return (("user", question), ("assistant", answer))


def read_conversations(source: str | Path, *, quiet: bool = False) -> list[Conversation]:
    """The examples of a file: JSON, JSON lines, CSV, TSV or Parquet.

    Its rows have a pair of fields: `term` and `definition`, `question` and `answer`, `prompt` and
    `response`, or `instruction` (perhaps with `input` or `context`) and `output`. Or they have chat
    `messages`, ShareGPT's `conversations`, SQuAD's `paragraphs`, or a `text` rendered for Llama-2.
    Every answer of a conversation becomes an example. Capitals and spaces around names are ignored;
    more names are in `PAIRS` and below it.

    A row with an empty question or answer is left out. If any other row cannot be read, raises
    DataError, which names file, rows and remedy. Prints what was understood and left out,
    duplicates and contradictions; prints nothing if `quiet`, or for the course's own samples.
    """
    path = _find_file(source)
    rows = _split_articles(_name_columns(read_rows(path)))
    report = _Report()
    conversations = []
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
            conversations += [replace(example, place=place) for example in examples]
    report.refuse(path, len(rows.objects))
    if not conversations:
        raise DataError(
            f"no question with an answer in {count(len(rows.objects), 'row')}.",
            where=show_path(path),
            remedy="fill in the answers.",
        )
    if not quiet and not path.resolve().is_relative_to(SAMPLES):
        report.show(path, rows.notes, conversations)
    return conversations


# --- the file -------------------------------------------------------------------------------------


def _find_file(source: str | Path) -> Path:
    """The path of a file, or of a folder that `save_to_disk` wrote.

    Raises DataError for another folder and for a missing path.
    """
    path = open_path(source)
    if not path.is_dir() or is_saved_dataset(path):
        return path
    files = [file for file in list_files(path).files if file.suffix.lower() in ENDINGS]
    remedy = (
        f"give one of its files, such as {show_path(files[0])}." if files else f"give {READABLE}."
    )
    raise DataError("is a folder.", where=show_path(path), remedy=remedy)


def _name_columns(rows: Rows) -> Rows:
    """The rows of a two-column table under the names question and answer, if its first line is
    already a question; other rows unchanged.
    """
    if len(rows.header) != 2 or not rows.header[0].strip().endswith("?"):
        return rows
    rows = read_without_header(rows)
    objects = [dict(zip(("question", "answer"), row.values(), strict=True)) for row in rows.objects]
    return replace(rows, objects=objects)


def _split_articles(rows: Rows) -> Rows:
    """SQuAD's articles and paragraphs as one row per question; other rows unchanged."""
    objects = []
    places = []
    for row, place in zip(rows.objects, rows.places, strict=True):
        for part, place_of_part in _split_article(row, place):
            objects.append(part)
            places.append(place_of_part)
    return replace(rows, objects=objects, places=places)


def _split_article(row: object, place: str) -> Iterator[tuple[dict, str]]:
    """The questions of an article (`paragraphs`) or a paragraph (`qas`), with their places."""
    if not isinstance(row, dict):
        yield {}, place  # no fields: `_match_fields` refuses the row
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

    kind: "term", "question", "chat" or "rendered". answer: the field of the answer, or of the whole
    chat. question, system, paraphrases: a field's name, or None. inputs: fields that are appended
    to the question. unread: all other fields.
    """

    kind: str
    answer: str
    question: str | None = None
    inputs: tuple[str, ...] = ()
    system: str | None = None
    paraphrases: str | None = None
    unread: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """A printed note, such as "term ← 'word', answer ← 'meaning'"."""
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
    """Which of a row's fields mean what. If several kinds of fields are there, the filled ones
    decide.
    """
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
    """Which of a row's `fields` mean what. Raises DataError if that is not clear."""
    names = _normalise_names(fields)
    chats = [name for name in CHATS if name in names]
    pair = _find_pair(names)
    system = next((names[name] for name in SYSTEMS if name in names), None)
    if chats:
        form = _Form("chat", names[chats[0]], system=system)
    elif pair:
        question, answer = pair
        if question in TERMS:
            paraphrases = next((names[name] for name in PARAPHRASES if name in names), None)
            form = _Form("term", names[answer], names[question], paraphrases=paraphrases)
        else:
            inputs = tuple(names[name] for name in INPUTS if name in names and name != question)
            form = _Form("question", names[answer], names[question], inputs, system)
    elif RENDERED in names:
        form = _Form("rendered", names[RENDERED])
    else:
        raise _refuse_fields(fields, names)
    used = {form.question, form.answer, form.system, form.paraphrases, *form.inputs}
    return replace(form, unread=tuple(name for name in fields if name not in used))


def _normalise_names(fields: tuple[str, ...]) -> dict[str, str]:
    """The file's field names by their usual names: small letters, no spaces around, no plural's s.

    Raises DataError for two fields of one name.
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
    """The usual names of question and answer, or None if there is not one of each."""
    for question, answer in PAIRS:
        if question in names and answer in names:
            return question, answer
    kinds = ((TERMS, DEFINITIONS), (QUESTIONS, ANSWERS), (INPUTS[:1], ANSWERS))
    for question_names, answer_names in kinds:
        questions = [name for name in question_names if name in names]
        answers = [name for name in answer_names if name in names]
        if len(questions) == len(answers) == 1:
            return questions[0], answers[0]
    return None


def _refuse_fields(fields: tuple[str, ...], names: dict[str, str]) -> DataError:
    """The error that says which field a row lacks."""
    if "role" in names and "content" in names:
        return DataError(
            "each row is one message.",
            remedy='one conversation per row: {"messages": [{"role": …, "content": …}, …]}.',
        )
    shown = show_names(fields) or "none"
    for question, answer in PAIRS:
        present, missing = (question, answer) if question in names else (answer, question)
        if present in names:
            return DataError(
                f"{present} has no {missing}; the fields are {shown}.",
                remedy=f"name or add the field {missing}.",
            )
    return DataError(f"no question with an answer; the fields are {shown}.", remedy=NAME_FIELDS)


def _read_row(row: dict, form: _Form) -> list[Conversation]:
    """The examples of a row: one, or one per answer of a conversation."""
    if form.kind == "term":
        term = read_field(row[form.question], form.question)
        paraphrases = _list_paraphrases(row, form)
        return [make_fact(term, _read_answer(row, form), paraphrases)]
    messages = _read_messages(row, form)
    if form.system is not None and messages[0][0] != "system":
        system = _read_optional(row[form.system], form.system)
        messages = (("system", system), *messages) if system else messages
    ends = [number for number, (role, _) in enumerate(messages, 1) if role == "assistant"]
    return [Conversation(messages[:end]) for end in ends]


def _list_paraphrases(row: dict, form: _Form) -> list[str]:
    """The definition in other words, from a field that holds a list of texts."""
    if form.paraphrases is None or not isinstance(row[form.paraphrases], list):
        return []
    texts = [text for text in row[form.paraphrases] if not is_missing(text)]
    return [read_field(text, form.paraphrases) for text in texts]


def _read_messages(row: dict, form: _Form) -> Messages:
    answer = row[form.answer]
    if form.kind == "chat":
        return read_messages(answer)
    if form.kind == "rendered":
        return read_rendered(answer)
    question = row[form.question]
    # in TRL's format, both are lists of messages
    if isinstance(question, list) and isinstance(answer, list):
        return read_messages([*question, *answer])
    parts = [read_field(question, form.question)]
    parts += [_read_optional(row[name], name) for name in form.inputs]
    text = "\n\n".join(part for part in parts if part)
    return (("user", text), ("assistant", _read_answer(row, form)))


def _read_answer(row: dict, form: _Form) -> str:
    """The answer; the first if a field holds several."""
    answers = _list_answers(row[form.answer])
    return read_field(answers[0] if answers else None, form.answer)


def _list_answers(value: object) -> list:
    """The answers of a field: a text, a list, or SQuAD's {"text": [texts], "answer_start": […]}."""
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
    """A field's text, or "" if it is missing."""
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in NO_INPUT):
        return ""
    return read_field(value, name)


# --- what the reader is told ----------------------------------------------------------------------


@dataclass
class _Report:
    """What was understood of a file, row by row.

    forms: number of examples by `_Form.description`. unread: fields that were not read. several:
    number of rows with more than one answer. empty: places of rows that are left out. problems:
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
        if form.kind == "question":
            answers = {str(answer) for answer in _list_answers(row[form.answer])}
            if len(answers) > 1:
                self.several += 1

    def refuse(self, path: Path, rows: int) -> None:
        """Raises one DataError for all rows that cannot be read."""
        if not self.problems:
            return
        remedies = list(dict.fromkeys(problem.remedy for _, problem in self.problems))
        reasons = {problem.what for _, problem in self.problems}
        place, problem = self.problems[0]
        # every row has the same problem: the error names the file
        if len(reasons) == 1 and len(self.problems) == rows > 1:
            place = show_path(path)
        elif len(self.problems) > 1:
            lines = [(place, problem.what) for place, problem in self.problems]
            refuse_rows(lines, " Or ".join(remedies))
        raise DataError(problem.what, where=place, remedy=problem.remedy) from problem

    def show(self, path: Path, notes: list[str], conversations: list[Conversation]) -> None:
        """Prints what was read."""
        print(f"{show_path(path.name)}: {'; '.join([*notes, *self.forms])}")
        question = show_text(conversations[0].question, SHOWN_EXAMPLE)
        answer = show_text(conversations[0].answer, SHOWN_EXAMPLE)
        print(f"   {count(len(conversations), 'example')}, such as {question} → {answer}")
        if self.unread:
            print(f"   not read: {show_names(list(self.unread))}")
        if self.several:
            print(f"   {count(self.several, 'row')} with several answers: the first is taken")
        if self.empty:
            places = show_places(self.empty, path)
            print(
                f"   {count(len(self.empty), 'row')} without question or answer left out: {places}"
            )
        _show_repetitions(conversations)


def _show_repetitions(conversations: list[Conversation]) -> None:
    """Prints how many examples are repeated, and how many questions have answers that differ."""
    answers = defaultdict(set)
    for conversation in conversations:
        answers[conversation.messages[:-1]].add(conversation.answer)
    repeated = len(conversations) - sum(len(texts) for texts in answers.values())
    if repeated:
        print(f"   {count(repeated, 'example')} repeated word for word; all are taught")
    differing = [before[-1][1] for before, texts in answers.items() if len(texts) > 1]
    if differing:
        questions = count(len(differing), "question")
        print(
            f"   {questions} with answers that differ, such as {show_text(differing[0])}; all are "
            f"taught"
        )

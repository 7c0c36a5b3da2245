"""Objects in JSON files: a list, one object per line, a list under a key, or columns.

Contract: the layout is recognised by the content, not by the ending. NaN and Infinity are missing
values. Halves of surrogate pairs (an emoji cut in two) become U+FFFD and are counted in the notes.
One error names all bad lines.
"""

import json
import re

from lessons_lib.data.encodings import UNREADABLE, count, replace_surrogates
from lessons_lib.data.rows import Rows, refuse_rows, show, show_names, show_places
from lessons_lib.data.splits import find_split
from lessons_lib.errors import DataError

LIST_REMEDY = "write a list of objects, [{…}, {…}], or one object per line."
MEND_REMEDY = "mend the JSON there, or write the file again with json.dump."
NAMES_OF_LABELS = ("label_names", "class_names", "id2label", "int2str")


def looks_like_json(text: str) -> bool:
    """Whether a text begins like a JSON object, or like a list of objects or lists."""
    return bool(re.match(r'\s*(\{\s*["\}]|\[\s*[\[\{\]])', text))


def may_be_json(text: str) -> bool:
    """Whether a text begins with a bracket of JSON. That is enough in a file named .json."""
    return text.lstrip()[:1] in ("{", "[")


def read_json(text: str, where: str, notes: list[str]) -> Rows:
    """The objects of a JSON text, with the layout added to `notes`.

    where: names the file in places and errors. Raises DataError for damaged JSON and for other
    values than objects.
    """
    try:
        numbered, layout = _read_layout(text, where)
        halves = _replace_halves(numbered) if re.search(r"\\u[dD][89a-fA-F]", text) else []
    except RecursionError as error:
        raise DataError("is nested too deeply.", where=where, remedy=LIST_REMEDY) from error
    refuse_rows(
        [
            (place, f"not an object but {show(row)}")
            for place, row in numbered
            if not isinstance(row, dict)
        ],
        LIST_REMEDY,
    )
    if not numbered:
        raise DataError("holds no objects.", where=where, remedy=LIST_REMEDY)
    notes = [*notes, layout]
    if halves:
        noun = count(len(halves), "row") + " with half an emoji"
        notes.append(f"{noun}, replaced by {UNREADABLE} ({show_places(halves, where)})")
    places = [place for place, _ in numbered]
    return Rows([row for _, row in numbered], places, notes)


def _load(text: str) -> object:
    return json.loads(text, parse_constant=lambda name: None)


def _read_layout(text: str, where: str) -> tuple[list[tuple[str, object]], str]:
    """Place and object of each row, and the layout's name."""
    try:
        whole = _load(text)
    except ValueError as error:
        return _read_lines(text, where, error), "one object per line"
    return _find_rows(whole, where), "JSON"


def _read_lines(text: str, where: str, error_of_whole: ValueError) -> list[tuple[str, object]]:
    """Places and values of one object per line, or of objects that span several lines each."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    numbered = []
    problems = []
    for number, line in lines:
        place = f"{where}, line {number}"
        try:
            numbered.append((place, _load(line)))
        except ValueError as error:
            problems.append((place, _describe(error)))
    if problems and (not numbered or len(problems) > len(lines) // 2):
        stream = _read_stream(text, where)
        if stream:
            return stream
        problem = _describe_whole(text, error_of_whole)
        line = getattr(error_of_whole, "lineno", 1)
        raise DataError(f"not JSON: {problem}.", where=f"{where}, line {line}", remedy=MEND_REMEDY)
    refuse_rows(problems, MEND_REMEDY)
    return numbered


def _read_stream(text: str, where: str) -> list[tuple[str, object]]:
    """Places and values of objects one after another, wherever lines end; [] if anything else is
    between them.
    """
    decoder = json.JSONDecoder(parse_constant=lambda name: None)
    numbered = []
    position = len(text) - len(text.lstrip())
    while position < len(text):
        if text[position] not in "{[":
            return []
        try:
            row, end = decoder.raw_decode(text, position)
        except ValueError:
            return []
        line = text.count("\n", 0, position) + 1 if len(numbered) < 10_000 else 0
        place = f"{where}, line {line}" if line else f"{where}, row {len(numbered) + 1}"
        numbered.append((place, row))
        gap = re.compile(r"[\s,]*").match(text, end)
        position = gap.end()
    return numbered


def _describe(error: ValueError) -> str:
    """The message of json's error, without the text: "Expecting value (column 12)"."""
    message = getattr(error, "msg", str(error).split(";")[0])
    column = getattr(error, "colno", 0)
    return f"{message} (column {column})" if column else message


def _describe_whole(text: str, error: ValueError) -> str:
    if re.match(r"\s*\[?\s*\{\s*'", text):
        return "it is written as Python shows it, with single quotes"
    return _describe(error)


# --- layouts --------------------------------------------------------------------------------------


def _find_rows(whole: object, where: str) -> list[tuple[str, object]]:
    """The rows of a whole JSON value."""
    if isinstance(whole, list):
        return _number(_name_fields(whole), where)
    if not isinstance(whole, dict):
        raise DataError(f"holds {show(whole)}, not a list.", where=where, remedy=LIST_REMEDY)
    for read in (_read_pandas_split, _read_named_lists, _read_columns, _read_nested):
        rows = read(whole, where)
        if rows:
            return _name_labels(rows, whole)
    if not any(isinstance(value, str) for value in whole.values()) and not _is_conversation(whole):
        names = show_names(list(whole)) or "no names"
        raise DataError(
            f"holds one object with {names}, no list of objects.", where=where, remedy=LIST_REMEDY
        )
    return _number([whole], where)


def _is_conversation(whole: dict) -> bool:
    return any(key in whole for key in ("messages", "conversations", "conversation"))


def _number(rows: list, where: str) -> list[tuple[str, object]]:
    return [(f"{where}, row {number}", row) for number, row in enumerate(rows, 1)]


def _name_fields(rows: list) -> list:
    """Objects, if the rows are lists and the first one names the fields; else `rows` unchanged."""
    if len(rows) < 2 or not all(isinstance(row, list) for row in rows):
        return rows
    header = rows[0]
    if not all(isinstance(name, str) for name in header) or len(set(header)) < len(header):
        return rows
    if any(len(row) != len(header) for row in rows):
        return rows
    return [dict(zip(header, row, strict=True)) for row in rows[1:]]


def _is_list_of_objects(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) > 0 and all(isinstance(row, dict) for row in value)
    )


def _read_pandas_split(whole: dict, where: str) -> list[tuple[str, object]]:
    """Rows of {"columns": ["text", …], "data": [["A fine film", …], …]}, which pandas writes with
    orient="split"; [] for another layout.
    """
    names = whole.get("columns")
    rows = whole.get("data")
    if not isinstance(names, list) or not isinstance(rows, list):
        return []
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return []
    return _number([dict(zip(map(str, names), row, strict=True)) for row in rows], where)


def _read_named_lists(whole: dict, where: str) -> list[tuple[str, object]]:
    """Rows of {"data": [{…}, …]}, or of several lists that are named after splits; [] for another
    layout.

    Raises DataError for several lists with other names.
    """
    lists = {key: value for key, value in whole.items() if _is_list_of_objects(value)}
    if _is_conversation(whole) or not lists:
        return []
    if len(lists) == 1:
        ((key, rows),) = lists.items()
        return [(f"{where}, {show_names([key])}, row {n}", row) for n, row in enumerate(rows, 1)]
    if not all(find_split(key) for key in lists):
        raise DataError(
            f"holds several lists: {show_names(list(lists))}.",
            where=where,
            remedy="write the one to read into a file of its own.",
        )
    numbered = []
    for key, rows in lists.items():
        for number, row in enumerate(rows, 1):
            numbered.append((f"{where}, {key}, row {number}", {"split": key, **row}))
    return numbered


def _read_columns(whole: dict, where: str) -> list[tuple[str, object]]:
    """Rows of {"text": [texts], "label": [labels]}, or of {"text": {"0": …}, …}, which pandas
    writes by default; [] for another layout.
    """
    values = list(whole.values())
    if not values:
        return []
    if all(isinstance(value, list) for value in values):
        lengths = {len(value) for value in values}
        if len(lengths) == 1 and len(values) > 1 and lengths != {0}:
            columns = zip(*values, strict=True)
            return _number([dict(zip(whole, row, strict=True)) for row in columns], where)
    if all(isinstance(value, dict) and value for value in values):
        inner = list(values[0])
        if all(list(value) == inner for value in values) and all(key.isdigit() for key in inner):
            rows = []
            for key in inner:
                rows.append({name: column[key] for name, column in whole.items()})
            return _number(rows, where)
        if all(key.isdigit() for key in whole) or len(values) > len(inner):
            return [(f"{where}, {show_names([key])}", row) for key, row in whole.items()]
    return []


def _read_nested(whole: dict, where: str) -> list[tuple[str, object]]:
    """Rows of a list one level further down, {"dataset": {"reviews": [{…}, …]}}; else []."""
    inner = [value for value in whole.values() if isinstance(value, dict)]
    if len(inner) != 1 or not any(_is_list_of_objects(value) for value in inner[0].values()):
        return []
    return _read_named_lists(inner[0], where)


def _name_labels(rows: list[tuple[str, object]], whole: dict) -> list[tuple[str, object]]:
    """The rows with numbers under "label" replaced by names, if the file lists names of labels."""
    names = next((whole[key] for key in NAMES_OF_LABELS if key in whole), None)
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict):
        return rows
    named = []
    for place, row in rows:
        label = str(row.get("label")) if isinstance(row, dict) else ""
        named.append((place, {**row, "label": names[label]} if label in names else row))
    return named


def _replace_halves(numbered: list[tuple[str, object]]) -> list[str]:
    """Replaces halves of surrogate pairs in `numbered` itself; returns the places that had any."""
    places = []
    for number, (place, row) in enumerate(numbered):
        mended = _without_halves(row)
        if mended != row:
            numbered[number] = (place, mended)
            places.append(place)
    return places


def _without_halves(value: object) -> object:
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, list):
        return [_without_halves(item) for item in value]
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(item) for key, item in value.items()}
    return value

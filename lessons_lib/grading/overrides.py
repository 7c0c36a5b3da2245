"""An instructor's points, from overrides.csv as any spreadsheet writes it.

Contract: the columns student, exercise, points, reason may be in any order, separated by commas,
semicolons or tabs. Decimal commas and all common encodings are read. Every row is used or named in
an OverrideError, which names all wrong rows at once.
"""

import csv
import difflib
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lessons_lib.data import decode_file
from lessons_lib.errors import CourseError
from lessons_lib.grading.filetypes import explain_signature
from lessons_lib.grading.owners import normalise_name

COLUMNS = ("student", "exercise", "points", "reason")
NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)")
SHOWN = 10  # wrong rows that an error names; further ones are counted


class OverrideError(CourseError):
    """Rows of overrides.csv without a known student, a known exercise, or a number."""


@dataclass(frozen=True)
class Override:
    """A row: points of a student for an exercise. row: its number, 1 for the header, as in
    spreadsheets.
    """

    row: int
    student: str
    exercise: str
    points: float
    reason: str


def find_overrides(file: Path) -> bool:
    """Whether there is such a table.

    Raises OverrideError for a table of another name or kind, which would be ignored.
    """
    remedy = f"save the table as CSV, under the name {file.name}."
    if file.is_file():
        with file.open("rb") as content:
            kind = explain_signature(content.read())
        if kind:
            raise OverrideError(
                f"it is {kind.what}, not a table of text.", where=str(file), remedy=remedy
            )
        return True
    for other in sorted(file.parent.iterdir()):
        if other.name.lower().startswith(file.stem) and not other.name.endswith("~"):
            raise OverrideError(f"only {file.name} is read.", where=str(other), remedy=remedy)
    return False


def read_overrides(file: Path) -> tuple[list[Override], dict[int, str]]:
    """The valid rows of an overrides.csv, and the problems of the others, by row number.

    Raises OverrideError for a table without the columns.
    """
    rows = _read_rows(file)
    while rows and not any(cell.strip() for cell in rows[0][1]):
        rows = rows[1:]
    if not rows:
        return [], {}
    header = [cell.strip().lower() for cell in rows[0][1]]
    missing = [name for name in COLUMNS[:3] if name not in header]
    if missing:
        raise OverrideError(
            f"no column {', '.join(missing)}; its first row is {', '.join(header)[:200]!r}.",
            where=str(file),
            remedy=f"make {','.join(COLUMNS)} its first row.",
        )
    overrides = []
    problems = {}
    for number, cells in rows[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        padding = [""] * (len(header) - len(cells))  # spreadsheets leave the last empty cells out
        fields = dict(zip(header, [*cells, *padding], strict=False))
        points = parse_points(fields.get("points", ""))
        if points is None:
            problems[number] = f"{fields.get('points', '')!r} is no number of points"
            continue
        reason = fields.get("reason", "")
        if header[-1] == "reason":  # a last column that may hold commas without quotes
            parts = [cell.strip() for cell in cells[len(header) - 1 :]]
            reason = ", ".join(part for part in parts if part)
        student = fields["student"]
        exercise = fields["exercise"].strip()
        overrides.append(Override(number, student, exercise, points, reason.strip()))
    return overrides, problems


def _read_rows(file: Path) -> list[tuple[int, list[str]]]:
    """The cells of every row, with the row's number."""
    text = re.sub(r"\r\n?", "\n", decode_file(file)).lstrip("\ufeff")
    first = text.partition("\n")[0]
    skipped = 0
    if re.fullmatch(r"sep=.\s*", first):  # Excel's own first line
        text = text.partition("\n")[2]
        skipped = 1
        separator = first.strip()[4:] or "\t"
    else:
        header = next((line for line in text.split("\n") if line.strip()), "")
        separator = max(",;\t|", key=header.count)
    rows = []
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    while True:
        number = len(rows) + skipped + 1
        try:
            rows.append((number, next(reader)))
        except StopIteration:
            return rows
        except csv.Error as problem:
            raise OverrideError(
                f"a quotation mark is opened and not closed, or closed too early ({problem}).",
                where=f"{file}, row {number}",
                remedy="quote the whole cell, and double the quotation marks inside.",
            ) from None


def parse_points(text: str) -> float | None:
    """A number with a point or a comma; None for anything else.

    >>> parse_points("1,5"), parse_points("nan")
    (1.5, None)
    """
    text = text.strip().removeprefix("'")
    if not NUMBER.fullmatch(text):
        return None
    points = float(text.replace(",", "."))
    return points if math.isfinite(points) else None


def find_student(name: str, students: Iterable[str]) -> list[str]:
    """The students whom a name may mean: one, none, or several if it is ambiguous.

    Names are compared as they are; if none is equal, without the apostrophe that protects a
    spreadsheet; if again none is, in one Unicode form and without blanks around them.
    """
    students = list(students)
    for spelling in (name, name.removeprefix("'")):
        if spelling in students:
            return [spelling]
    for spelling in (name, name.strip().removeprefix("'")):
        wanted = normalise_name(spelling)
        matches = [student for student in students if normalise_name(student) == wanted]
        if matches:
            return matches
    return []


def suggest_name(name: str, names: Iterable[str]) -> str:
    """The most similar of some names, as a question; "" if none is similar.

    >>> suggest_name("Ann", ["ann", "ben"])
    ' (did you mean ann?)'
    """
    spellings = {normalise_name(known).casefold(): known for known in names}
    wanted = normalise_name(name).casefold()
    nearest = difflib.get_close_matches(wanted, spellings, n=1, cutoff=0.5)
    if not nearest:
        nearest = [spelling for spelling in spellings if wanted and wanted in spelling]
    return f" (did you mean {spellings[nearest[0]]}?)" if nearest else ""


def refuse_overrides(file: Path, problems: Mapping[int, str]) -> None:
    """Raises an OverrideError that names all wrong rows; does nothing where there are none."""
    if not problems:
        return
    lines = [f"row {row}: {problem}" for row, problem in sorted(problems.items())]
    shown = "; ".join(lines[:SHOWN])
    more = f"; and {len(problems) - SHOWN} more rows" if len(problems) > SHOWN else ""
    raise OverrideError(
        f"{shown}{more}. Nothing was changed.",
        where=str(file),
        remedy=f"columns {', '.join(COLUMNS)}; names as in scores.csv, points as a number.",
    )

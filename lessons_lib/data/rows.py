"""Rows of a file, and how messages show their values.

Contract: before a value of a file is printed, its control characters are escaped and it is
shortened.
"""

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lessons_lib.errors import DataError

SHOWN_PROBLEMS = 5  # bad rows that an error names; more are counted
SHOWN_CHARACTERS = 60
SHOWN_COLUMNS = 12

_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = _shortener.maxlong = SHOWN_CHARACTERS
_shortener.maxlevel = 2
_shortener.maxlist = _shortener.maxdict = 3


@dataclass(frozen=True)
class Rows:
    """The objects of a file in their order.

    objects: one dict per row, keys as the file has them. places: where each row comes from, such as
    "facts.json, row 3" or "facts.csv, line 7". notes: what was understood of the file, such as
    "UTF-8" or "tab-separated". header, header_place: the fields of a table's first line and its
    place, for files whose first line is already a row.
    """

    objects: list[dict[str, object]]
    places: list[str]
    notes: list[str]
    header: list[str] = field(default_factory=list)
    header_place: str = ""


def read_without_header(rows: Rows) -> Rows:
    """The rows with the header as the first of them; columns become "column 1", "column 2" and so
    on.
    """
    names = [f"column {number}" for number in range(1, len(rows.header) + 1)]
    lines = [rows.header]
    lines += [list(row.values()) for row in rows.objects]
    objects = [dict(zip(names, line, strict=True)) for line in lines]
    return Rows(objects, [rows.header_place, *rows.places], [*rows.notes, "no header"])


def list_columns(rows: Rows) -> list[str]:
    """All keys of all rows, in the order of their first use."""
    names: dict[str, None] = {}
    for row in rows.objects:
        names.update(dict.fromkeys(row))
    return list(names)


def refuse_rows(problems: Iterable[tuple[str, str]], remedy: str) -> None:
    """Raises one DataError that names all bad rows; does nothing if there are none.

    problems: pairs of a place and what is wrong there. Beyond SHOWN_PROBLEMS they are counted.
    """
    problems = list(problems)
    if not problems:
        return
    if len(problems) == 1:
        ((place, what),) = problems
        raise DataError(f"{what}.", where=place, remedy=remedy)
    lines = [f"{place}: {what}" for place, what in problems]
    shown = "\n".join(lines[:SHOWN_PROBLEMS])
    more = ""
    if len(lines) > SHOWN_PROBLEMS:
        more = f"\nand {len(lines) - SHOWN_PROBLEMS:,} more"
    raise DataError(f"{shown}{more}\n", remedy=remedy)


# --- showing --------------------------------------------------------------------------------------


def show(value: object) -> str:
    """A value for a message: escaped and shortened.

    >>> show("\\x1b[31mred")
    "'\\\\x1b[31mred'"
    """
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return repr(value[: SHOWN_CHARACTERS - 1] + "…")
    return _shortener.repr(value)


def show_path(path: object) -> str:
    """A path for a message: characters that a terminal cannot print are replaced by "?"."""
    return "".join(char if char.isprintable() else "?" for char in str(path))


def show_text(text: str, length: int = 40) -> str:
    """The first `length` characters of a text in double quotes, without control characters and line
    breaks.
    """
    words = "".join(char for char in " ".join(text.split()) if char.isprintable())
    if len(words) > length:
        words = words[: length - 1].rstrip() + "…"
    return f'"{words}"'


def show_names(names: Sequence[object]) -> str:
    """Names of columns for a message; beyond SHOWN_COLUMNS they are counted."""
    shown = [str(name) if _is_plain(name) else show(name) for name in names[:SHOWN_COLUMNS]]
    if len(names) > SHOWN_COLUMNS:
        shown.append(f"{len(names) - SHOWN_COLUMNS} more")
    return ", ".join(shown)


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and 0 < len(name) <= SHOWN_CHARACTERS


def show_places(places: Sequence[str], source: object = "") -> str:
    """The first three places: "line 3, line 8, …", without the file's name if it is `source`."""
    shown = [place.removeprefix(f"{show_path(source)}, ") for place in places[:3]]
    return ", ".join(shown) + (", …" if len(places) > 3 else "")

"""Files of a reader's own: bytes to text, tables and JSON rows."""

import html
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lessons_lib.errors import DataError

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"

SHOWN_PROBLEMS = 5  # bad rows that an error names; more are counted


@dataclass(frozen=True)
class Rows:
    """The objects of a file in their order.

    objects: one dict a row, keys as the file has them. places: where each stands, such as "facts.json, row 3"
    or "facts.csv, line 7". notes: what was understood of the file, such as "UTF-8" or "tab-separated".
    """

    objects: list[dict[str, object]]
    places: list[str]
    notes: list[str]


def read_rows(path: Path) -> Rows:
    """The rows of a file. Raises DataError, which names file, place and remedy."""
    raise NotImplementedError


def refuse_rows(problems: Iterable[tuple[str, str]], remedy: str) -> None:
    """Raises a DataError that names all bad rows at once; does nothing where there are none.

    problems: place and what is wrong there. Places beyond the first SHOWN_PROBLEMS are counted.
    """
    lines = [f"{place}: {what}" for place, what in problems]
    if not lines:
        return
    shown = "\n".join(lines[:SHOWN_PROBLEMS])
    more = f"\nand {len(lines) - SHOWN_PROBLEMS:,} more" if len(lines) > SHOWN_PROBLEMS else ""
    raise DataError(f"{shown}{more}\n", remedy=remedy)


def clean_text(text: str) -> str:
    """Without HTML breaks, tags' entities or runs of white space."""
    return " ".join(html.unescape(re.sub(r"<br\s*/?>", " ", text, flags=re.IGNORECASE)).split())


def read_json_rows(path: Path, text: str) -> list[tuple[str, dict]]:
    """Where each object of a JSON list or JSONL file stands, and the object. DataError for anything else."""
    if path.suffix.lower() == ".jsonl":
        lines = [(f"{path}, line {n}", line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        rows = [(where, _parse_json(line, where)) for where, line in lines]
    else:
        rows = _parse_json(text, str(path))
        if not isinstance(rows, list):
            raise DataError(
                f"{path} is not a list. Remedy: [{{…}}, {{…}}], or one object a line in a .jsonl."
            )
        rows = [(f"{path}, row {number}", row) for number, row in enumerate(rows, 1)]
    for where, row in rows:
        if not isinstance(row, dict):
            raise DataError(f'{where}: not an object. Remedy: {{"text": …, "label": …}}, as the data needs.')
    return rows


def _parse_json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: {error}. Remedy: mend the JSON there.") from error


def read_table(path: Path, text: str) -> pd.DataFrame:
    header = text.splitlines()[0]
    separator = max("\t,;", key=header.count) if path.suffix.lower() == ".csv" else "\t"
    return pd.read_csv(
        io.StringIO(text), sep=separator, index_col=False, dtype=str, keep_default_na=False, na_values=[""]
    )


def decode_file(path: Path) -> str:
    """A text file's content: UTF-8, UTF-16 with its mark, or what older spreadsheets write."""
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")

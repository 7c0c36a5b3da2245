"""A reader's own files: from bytes to rows, for every format.

Contract: `read_rows` and `read_text` return the content of a file, with notes on how it was
understood, or raise a DataError that names file, place and remedy; missing and forbidden files
raise it too. A file's bytes decide its format, not its ending. `list_files` leaves out the files
that programs write for themselves.
"""

import contextlib
import html
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lessons_lib.data.columnar import is_saved_dataset, read_arrow, read_parquet, read_saved_dataset
from lessons_lib.data.encodings import Text, count, decode
from lessons_lib.data.json_rows import looks_like_json, may_be_json, read_json
from lessons_lib.data.kinds import (
    ARROW_FILE,
    ARROW_STREAM,
    HEAD_BYTES,
    PARQUET,
    describe_binary,
    is_apple_double,
    is_binary,
    refuse_other_kinds,
    refuse_other_texts,
    unpack,
)
from lessons_lib.data.rows import SHOWN_PROBLEMS, Rows, refuse_rows, show, show_path
from lessons_lib.data.tables import find_separator, read_table
from lessons_lib.errors import DataError
from lessons_lib.paths import SAMPLES

__all__ = [
    "ENDINGS",
    "SAMPLES",
    "SHOWN_PROBLEMS",
    "TABLE_ENDINGS",
    "Listing",
    "Rows",
    "Text",
    "clean_text",
    "count_endings",
    "decode_file",
    "list_files",
    "open_path",
    "plain_ending",
    "read_rows",
    "read_text",
    "refuse_rows",
]

JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
TABLE_ENDINGS = (".csv", ".tsv", ".tab", *JSON_ENDINGS, ".parquet", ".arrow", ".feather")
ENDINGS = (*TABLE_ENDINGS, ".txt")
PACKED_ENDINGS = (".gz", ".bz2", ".xz")
LABEL_AT_END = re.compile(r"@\s*[^\s@]+\s*$")
FASTTEXT = re.compile(r"__label__(\S+)\s+(.*)", flags=re.DOTALL)


# --- one file -------------------------------------------------------------------------------------


def open_path(source: str | Path) -> Path:
    """The path that a reader gave, with ~ expanded.

    Raises DataError unless it is a file or a folder.
    """
    name = str(source)
    if not name.strip():
        raise DataError("no file was named.", remedy="give a file or folder.")
    try:
        path = Path(name).expanduser()
        exists = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise _describe_access(show_path(name), error) from error
    if not exists:
        raise DataError(f"{show_path(path)} does not exist.", remedy="check the path.")
    if not (path.is_file() or path.is_dir()):
        raise DataError(
            "is neither a file nor a folder.", where=show_path(path), remedy="give a file."
        )
    return path


def read_rows(path: Path) -> Rows:
    """The rows of a file, or of a folder that `Dataset.save_to_disk` wrote.

    Reads CSV, TSV, JSON, JSONL, Parquet, Arrow, fastText's `__label__x text` and lines
    sentence@label, also if packed by gzip, bzip2 or xz. Raises DataError, which names file, place
    and remedy.
    """
    path = open_path(path)
    where = show_path(path)
    if path.is_dir():
        return _read_folder(path, where)
    raw, packing = _read_bytes(path)
    notes = [packing] if packing else []
    if raw.startswith(PARQUET):
        rows = read_parquet(raw, where)
    elif raw.startswith((ARROW_FILE, ARROW_STREAM)):
        rows = read_arrow(raw, where)
    else:
        text = _decode(raw, where)
        refuse_other_texts(text.text, where)
        return _read_text_rows(text, where, plain_ending(path), [*notes, *text.notes])
    return Rows(rows.objects, rows.places, [*notes, *rows.notes])


def read_text(path: Path) -> Text:
    """A text file's content, its encoding, and how many unreadable places were replaced.

    Raises DataError for other files, such as an image or an archive.
    """
    path = open_path(path)
    where = show_path(path)
    raw, _ = _read_bytes(path)
    return _decode(raw, where)


def decode_file(path: Path) -> str:
    """A text file's content, decoded by `read_text`. Raises DataError."""
    return read_text(path).text


def clean_text(text: str) -> str:
    """`text` with HTML entities decoded; HTML breaks and runs of white space become one space.

    >>> clean_text("Good &amp; short.<br />Dull&lt;br&gt;end")
    'Good & short. Dull end'
    """
    with contextlib.suppress(ValueError):  # an entity of thousands of digits
        text = html.unescape(text)
    return " ".join(re.sub(r"<br\s*/?>", " ", text, flags=re.IGNORECASE).split())


def _read_folder(folder: Path, where: str) -> Rows:
    if not is_saved_dataset(folder):
        raise DataError("is a folder.", where=where, remedy="give a file in it.")
    parts = list(read_saved_dataset(folder).values())
    objects = []
    places = []
    for part in parts:
        objects += part.objects
        places += part.places
    return Rows(objects, places, parts[0].notes)


def _read_bytes(path: Path) -> tuple[bytes, str]:
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        raise _describe_access(show_path(path), error) from error
    return unpack(raw, show_path(path))


def _describe_access(where: str, error: Exception) -> DataError:
    """The error that says why the operating system does not open a file."""
    if isinstance(error, PermissionError):
        return DataError(
            "may not be read.", where=where, remedy="give yourself the right to read it."
        )
    reason = getattr(error, "strerror", None) or str(error)
    return DataError(f"cannot be opened ({reason}).", where=where, remedy="check the path.")


def _decode(raw: bytes, where: str) -> Text:
    refuse_other_kinds(raw, where)
    try:
        text = decode(raw, where)
    except DataError:
        if is_binary(raw):
            raise describe_binary(where) from None
        raise
    if is_binary(text.text[:HEAD_BYTES].encode(errors="replace")):
        raise describe_binary(where)
    return text


def plain_ending(path: Path) -> str:
    """The ending in small letters, without that of the packing: ".csv" for "reviews.CSV.gz"."""
    endings = [suffix.lower() for suffix in path.suffixes]
    if len(endings) > 1 and endings[-1] in PACKED_ENDINGS:
        return endings[-2]
    return endings[-1] if endings else ""


def _read_text_rows(text: Text, where: str, ending: str, notes: list[str]) -> Rows:
    content = text.text
    if looks_like_json(content) or (ending in JSON_ENDINGS and may_be_json(content)):
        return read_json(content, where, notes)
    numbered = enumerate(re.split(r"\r\n|\r|\n", content), 1)
    lines = [(number, line) for number, line in numbered if line.strip()]
    if FASTTEXT.match(lines[0][1].lstrip()):
        return _read_fasttext(lines, where, notes)
    if ending in TABLE_ENDINGS and ending not in JSON_ENDINGS:
        return read_table(content, where, notes)
    if _are_labelled_at_end(lines) and not find_separator(content, 0.9):
        return _read_labels_at_end(lines, where, notes)
    if find_separator(content, 0.9):
        return read_table(content, where, notes)
    if ending in JSON_ENDINGS:
        begin = show(content.strip()[:30])
        remedy = "write it with json.dump, or call a table .csv."
        raise DataError(f"is not JSON: it begins with {begin}.", where=where, remedy=remedy)
    raise DataError(
        "is plain text, not a table.",
        where=where,
        remedy="give a table (CSV, TSV, JSON) with a column for each thing the lesson needs; "
        "for labelled sentences, lines sentence@label will do.",
    )


def _read_fasttext(lines: list[tuple[int, str]], where: str, notes: list[str]) -> Rows:
    """The rows of lines `__label__2 The text`, fastText's training format."""
    objects = []
    places = []
    problems = []
    for number, line in lines:
        place = f"{where}, line {number}"
        match = FASTTEXT.match(line.strip())
        if not match:
            problems.append((place, "begins with no __label__"))
        elif match.group(2).startswith("__label__"):
            problems.append((place, "has two labels"))
        else:
            objects.append({"label": match.group(1).rstrip(","), "text": match.group(2)})
            places.append(place)
    refuse_rows(problems, "begin each line with __label__ and one label, or delete the line.")
    return Rows(objects, places, [*notes, "fastText's lines"])


def _are_labelled_at_end(lines: list[tuple[int, str]]) -> bool:
    labelled = sum(1 for _, line in lines if LABEL_AT_END.search(line))
    return labelled >= len(lines) / 2


def _read_labels_at_end(lines: list[tuple[int, str]], where: str, notes: list[str]) -> Rows:
    """The rows of lines sentence@label, the format of Financial PhraseBank."""
    objects = []
    places = []
    problems = []
    for number, line in lines:
        place = f"{where}, line {number}"
        sentence, _, label = line.rpartition("@")
        if not sentence.strip():
            problems.append((place, "text is '', as no @ parts it from a label"))
        objects.append({"text": sentence, "label": label})
        places.append(place)
    refuse_rows(problems, "end the line with @ and its label, or delete it.")
    return Rows(objects, places, [*notes, "lines sentence@label"])


# --- the files of a folder ------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """The files of a folder that may hold data, sorted, and how many were left out.

    files: files of every ending, also of endings that the course does not read. skipped: number of
    files by reason, such as {"hidden": 3, "in node_modules": 40}. A folder that cannot be opened
    counts as one file.
    """

    files: list[Path]
    skipped: Counter[str] = field(default_factory=Counter)

    def describe_skipped(self) -> str:
        """ "3 files (hidden), 40 files (in node_modules)", or "" if none was left out."""
        return ", ".join(
            f"{count(number, 'file')} ({reason})" for reason, number in self.skipped.items()
        )


# Folders that programs fill: packages, caches, and the notes of a Mac's archive on its files.
SKIPPED_FOLDERS = (
    "__MACOSX",
    "__pycache__",
    "node_modules",
    "bower_components",
    "site-packages",
    "venv",
    "virtualenv",
    "build",
    "dist",
    "target",
    "$RECYCLE.BIN",
    "System Volume Information",
)
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "icon\r")


def list_files(folder: Path) -> Listing:
    """The files below a folder that may hold data.

    Left out are hidden files, a Mac's `._` files, locks of Office programs, and all files in
    folders that programs fill (SKIPPED_FOLDERS, virtual environments). Links to folders are
    followed, each folder once. Raises DataError for a folder that cannot be opened.
    """
    folder = open_path(folder)
    if not folder.is_dir():
        raise DataError("is no folder.", where=show_path(folder), remedy="give a folder.")
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise _describe_access(show_path(folder), error) from error
    files: list[Path] = []
    skipped: Counter[str] = Counter()
    visited: set[str] = set()
    locked: list[OSError] = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=locked.append):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        _skip_folders(Path(parent), folders, skipped)
        for name in names:
            path = Path(parent, name)
            reason = _reason_to_skip(path)
            if reason:
                skipped[reason] += 1
            else:
                files.append(path)
    if locked:
        skipped["may not be opened"] += len(locked)
    return Listing(sorted(files), skipped)


def _skip_folders(parent: Path, folders: list[str], skipped: Counter[str]) -> None:
    """Removes from `folders` those that are not walked, and counts their files in `skipped`."""
    for name in list(folders):
        is_environment = (parent / name / "pyvenv.cfg").exists()
        if not (name.startswith(".") or name in SKIPPED_FOLDERS or is_environment):
            continue
        folders.remove(name)
        files = sum(len(names) for _, _, names in os.walk(parent / name))
        if files:
            skipped["hidden" if name.startswith(".") else f"in {show_path(name)}"] += files


def _reason_to_skip(path: Path) -> str:
    """Why a file is left out; "" if it may hold data."""
    name = path.name
    if name.startswith("."):
        return "hidden"
    if name.startswith(("~$", ".~")) or name.lower() in SYSTEM_FILES:
        return "of other programs"
    try:
        if not path.is_file():
            return "no ordinary files"
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        return "may not be opened"
    return "of a Mac's archive" if is_apple_double(head) else ""


def count_endings(paths: Iterable[Path]) -> str:
    """How many files have each ending, the most frequent first.

    >>> count_endings([Path("a.pdf"), Path("b.PDF"), Path("notes")])
    '2 .pdf, 1 without an ending'
    """
    endings = Counter(path.suffix.lower() for path in paths)
    named = [
        f"{number:,} {show_path(ending) or 'without an ending'}"
        for ending, number in endings.most_common()
    ]
    return ", ".join(named)

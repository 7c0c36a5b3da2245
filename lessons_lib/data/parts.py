"""A reader's own file or folder as parts: rows, with the split that the file's name states.

Contract: a folder holds class folders (pos/*.txt, neg/*.txt, at any depth), or files of rows, or
the output of `Dataset.save_to_disk`. Every file is read or counted in `left_out`.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lessons_lib.data.columnar import is_saved_dataset, read_saved_dataset
from lessons_lib.data.encodings import count
from lessons_lib.data.files import (
    TABLE_ENDINGS,
    count_endings,
    list_files,
    open_path,
    plain_ending,
    read_rows,
    read_text,
)
from lessons_lib.data.labels import NAMES, read_label
from lessons_lib.data.rows import Rows, refuse_rows, show_path
from lessons_lib.data.splits import find_split
from lessons_lib.errors import DataError

TEXT_ENDINGS = (".txt", ".text", ".md", "")
LABEL_FOLDER = re.compile(r"-?\d{1,2}")


@dataclass(frozen=True)
class Part:
    """Rows of a file or of a folder's split; its name, and the split that the name states or ""."""

    name: str
    split: str
    rows: Rows


@dataclass(frozen=True)
class Collection:
    """The parts of a source, and phrases for what was left out of it."""

    parts: list[Part]
    left_out: list[str] = field(default_factory=list)


def read_collection(source: str | Path, mapping: Mapping[str, str]) -> Collection:
    """The parts of a file or folder.

    mapping: its labels name class folders too. Raises DataError for a source that cannot be read or
    holds no rows.
    """
    path = open_path(source)
    if not path.is_dir():
        return Collection([Part(show_path(path), "", read_rows(path))])
    if is_saved_dataset(path):
        parts = []
        for name, rows in read_saved_dataset(path).items():
            parts.append(Part(f"{show_path(path)}[{name}]", find_split(name), rows))
        return Collection(parts)
    return _read_folder(path, mapping)


def _read_folder(folder: Path, mapping: Mapping[str, str]) -> Collection:
    listing = list_files(folder)
    left_out = [listing.describe_skipped()] if listing.skipped else []
    classed = _find_classed(folder, listing.files, mapping)
    if classed:
        parts = _read_class_folders(folder, classed)
        chosen = set(classed)
    else:
        tables = _choose_tables(folder, listing.files)
        parts, problems = _read_tables(folder, tables)
        left_out += problems
        chosen = set(tables)
    others = [path for path in listing.files if path not in chosen]
    if others:
        left_out.append(f"{count_endings(others)} beside them")
    if not parts:
        reasons = f" Left out: {'; '.join(left_out)}." if left_out else ""
        raise DataError(
            f"holds no reviews.{reasons}",
            where=show_path(folder),
            remedy=f"put pos/*.txt and neg/*.txt or files ending in {', '.join(TABLE_ENDINGS)} "
            f"there.",
        )
    return Collection(parts, left_out)


# --- class folders --------------------------------------------------------------------------------


def _find_classed(folder: Path, files: list[Path], mapping: Mapping[str, str]) -> dict[Path, str]:
    """The label of each text in a class folder: the name of the nearest folder above that is one.

    Folders named by numbers ("1", "2") are class folders only if none has the name of a class.
    """
    texts = [path for path in files if path.suffix.lower() in TEXT_ENDINGS]
    for is_label in (lambda name: name in NAMES or name in mapping, LABEL_FOLDER.fullmatch):
        classed = {}
        for path in texts:
            names = [read_label(part) for part in path.relative_to(folder).parts[:-1]]
            labels = [name for name in names if is_label(name)]
            if labels:
                classed[path] = labels[-1]
        if classed:
            return classed
    return {}


def _read_class_folders(folder: Path, classed: Mapping[Path, str]) -> list[Part]:
    """One part per split; each file is one text."""
    objects: dict[str, list[dict]] = {}
    places: dict[str, list[str]] = {}
    encodings: Counter[str] = Counter()
    replaced = 0
    problems = []
    for path, label in classed.items():
        try:
            text = read_text(path)
        except DataError as problem:
            problems.append((show_path(path), problem.what))
            continue
        encodings[text.encoding] += 1
        replaced += text.replaced + text.left_out
        split = _find_split_above(folder, path.parent)
        objects.setdefault(split, []).append({"text": text.text, "label": label})
        places.setdefault(split, []).append(show_path(path))
    refuse_rows(problems, "delete these files, or save them as UTF-8.")
    notes = [
        name if len(encodings) == 1 else f"{number:,} in {name}"
        for name, number in encodings.items()
    ]
    if replaced:
        notes.append(f"{count(replaced, 'unreadable place')} replaced or left out")
    notes.append("one text per file")
    return [
        Part(show_path(folder / split), split, Rows(rows, places[split], notes))
        for split, rows in objects.items()
    ]


def _find_split_above(folder: Path, inner: Path) -> str:
    """The split that the nearest folder's name states, from `inner` up to `folder`; or ""."""
    for name in reversed(inner.relative_to(folder).parts):
        if find_split(name):
            return find_split(name)
    return ""


# --- files of rows --------------------------------------------------------------------------------


def _choose_tables(folder: Path, files: list[Path]) -> list[Path]:
    """Files of rows at the folder's top, else those further down, else texts that may hold rows."""
    tables = [path for path in files if plain_ending(path) in TABLE_ENDINGS]
    top = [path for path in tables if path.parent == folder]
    texts = [path for path in files if plain_ending(path) in TEXT_ENDINGS]
    return top or tables or texts


def _read_tables(folder: Path, tables: list[Path]) -> tuple[list[Part], list[str]]:
    """Parts, and phrases for the files that were left out.

    Texts and .json files may be anything (a README, a program's settings), so those without rows
    are left out. Raises DataError for other files that cannot be read, as they may hold rows.
    """
    parts = []
    problems = []
    for path in tables:
        try:
            rows = read_rows(path)
        except DataError as problem:
            if plain_ending(path) not in (*TEXT_ENDINGS, ".json"):
                raise
            problems.append(f"{show_path(path.name)} ({problem.what.rstrip('.')})")
            continue
        inner = path.relative_to(folder)
        split = find_split(inner.name.removesuffix("".join(inner.suffixes[-1:])))
        parts.append(Part(show_path(path), split or _find_split_above(folder, path.parent), rows))
    return parts, problems

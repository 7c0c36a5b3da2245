"""Parquet and Arrow files, and folders that `Dataset.save_to_disk` wrote.

Contract: class numbers become the names that the file gives them (ClassLabel); −1, which publishers
write for a secret label, becomes a missing label.
"""

from pathlib import Path

import pyarrow
from datasets import ClassLabel, Dataset, Features, load_from_disk
from pyarrow import ipc, parquet

from lessons_lib.data.rows import Rows, show_path
from lessons_lib.errors import DataError

SAVED_FILES = ("dataset_dict.json", "state.json")
# What pyarrow and datasets raise for damaged files.
LIBRARY_ERRORS = (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError)


def read_parquet(raw: bytes, where: str) -> Rows:
    """The rows of a Parquet file's bytes. Raises DataError for a damaged one."""
    try:
        table = parquet.read_table(pyarrow.BufferReader(raw))
        return _to_rows(table, where, ["Parquet"])
    except LIBRARY_ERRORS as error:
        raise _describe_damage(where, "Parquet") from error


def read_arrow(raw: bytes, where: str) -> Rows:
    """The rows of the bytes of an Arrow or Feather file, such as `data-00000-of-00001.arrow`.

    Raises DataError for a damaged one.
    """
    opener = ipc.open_file if raw.startswith(b"ARROW1") else ipc.open_stream
    try:
        table = opener(pyarrow.BufferReader(raw)).read_all()
        return _to_rows(table, where, ["Arrow"])
    except LIBRARY_ERRORS as error:
        raise _describe_damage(where, "Arrow") from error


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    return any((folder / name).is_file() for name in SAVED_FILES)


def read_saved_dataset(folder: Path) -> dict[str, Rows]:
    """The rows of each split in a folder that `save_to_disk` wrote.

    A folder without splits gives one, called "". Raises DataError for a damaged folder.
    """
    where = show_path(folder)
    try:
        saved = load_from_disk(str(folder))
        if isinstance(saved, Dataset):
            return {"": read_dataset(saved, where)}
        return {name: read_dataset(part, f"{where}[{name}]") for name, part in saved.items()}
    except DataError:
        raise
    except LIBRARY_ERRORS as error:
        raise _describe_damage(where, "saved data set's") from error


def read_dataset(dataset: Dataset, where: str) -> Rows:
    """The rows of a Dataset; their places are "where, row 1" and so on. Raises DataError for an
    empty one.
    """
    table = dataset.with_format("arrow")[:]
    return _to_rows(table, where, ["saved data set"], dataset.features)


def _to_rows(
    table: pyarrow.Table, where: str, notes: list[str], features: Features | None = None
) -> Rows:
    features = features or _read_features(table)
    objects = table.to_pylist()
    for name, feature in features.items():
        if isinstance(feature, ClassLabel) and feature.names:
            for row in objects:
                row[name] = _name_label(feature.names, row[name])
    if not objects:
        raise DataError("holds no rows.", where=where, remedy="give a file that holds rows.")
    places = [f"{where}, row {number}" for number in range(1, len(objects) + 1)]
    return Rows(objects, places, notes)


def _read_features(table: pyarrow.Table) -> Features:
    """The features that `datasets` wrote into the table's schema; none for other tables."""
    if b"huggingface" not in (table.schema.metadata or {}):
        return Features()
    return Features.from_arrow_schema(table.schema)


def _name_label(names: list[str], number: object) -> object:
    if isinstance(number, int) and 0 <= number < len(names):
        return names[number]
    return None if number == -1 else number


def _describe_damage(where: str, kind: str) -> DataError:
    return DataError(
        f"is a {kind} file that cannot be read: it is damaged or was not copied whole.",
        where=where,
        remedy="download or write it again.",
    )

"""Reads what W&B kept of an offline run, so that a lesson can show it without an account.

Contract: reads only. The file's format is LevelDB's log with W&B's own protocol buffers in it.
"""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from wandb.proto.wandb_internal_pb2 import Record

from lessons_lib.errors import CourseError

SECONDS_TO_WRITE = 20  # that W&B may take to end its file
HEADING = 7  # bytes: of the file, and of each piece in it
LOG_BLOCK = 32768  # bytes


class RecordError(CourseError):
    """An offline run's record is missing, or was not written to its end."""


def read_wandb_run(output_dir: Path) -> pd.DataFrame:
    """What the last offline run below a training's `output_dir` logged: one row per logged step,
    one column per name, such as `train/loss` and `train/global_step`.

    Raises RecordError where there is no such run, as after one with WANDB_API_KEY set.
    """
    files = sorted(Path(output_dir).glob("wandb/wandb/offline-run-*/run-*.wandb"))
    if not files:
        raise RecordError(
            "no offline run of W&B is kept here.",
            where=str(output_dir),
            remedy='train with report_to="wandb", WANDB_API_KEY unset.',
        )
    rows = []
    for record in _read_finished_run(files[-1]):
        if record.WhichOneof("record_type") == "history":
            names = [item.key or "/".join(item.nested_key) for item in record.history.item]
            values = [json.loads(item.value_json) for item in record.history.item]
            rows.append(dict(zip(names, values, strict=True)))
    return pd.DataFrame(rows)


def _read_finished_run(file: Path) -> list[Record]:
    """The records of a run that W&B was told to finish. `wandb.finish` returns before W&B's own
    process has written the last of them, which is of the kind "exit".
    """
    deadline = time.monotonic() + SECONDS_TO_WRITE
    while True:
        records = [Record.FromString(data) for data in _read_log(file.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        if time.monotonic() > deadline:
            raise RecordError("W&B has not written the end of its record.", where=str(file))
        time.sleep(0.05)


def _read_log(raw: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log: each piece has a checksum (4 bytes), its length (2) and its
    kind (1); a record is one whole piece (1), or several up to a last one (4)."""
    place = HEADING
    record = b""
    while place + HEADING < len(raw):
        left = LOG_BLOCK - place % LOG_BLOCK
        if left < HEADING:  # no heading fits: the block's end is padding
            place += left
            continue
        length, kind = struct.unpack_from("<HB", raw, place + 4)
        start = place + HEADING
        if start + length > len(raw):  # still being written
            return
        record += raw[start : start + length]
        place = start + length
        if kind in (1, 4):
            yield record
            record = b""

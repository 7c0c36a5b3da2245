"""What several test files use."""

import ast
import hashlib
import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from wandb.proto.wandb_internal_pb2 import Record

from lessons_lib.paths import NOTEBOOKS

SECONDS_TO_WRITE = 20  # that W&B may take to end its file
LOG_BLOCK = 32768  # bytes, in W&B's offline files


def hash_weights(model: nn.Module, keep: Callable[[str], bool] = lambda name: True) -> str:
    """A SHA-256 over the parameters whose names `keep` accepts: equal if and only if they are, to
    the bit.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if keep(name):
            digest.update(
                name.encode()
                + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            )
    return digest.hexdigest()


def read_tracked_losses(output_dir: Path) -> list[float]:
    """The training losses in the only offline W&B run below a training's `output_dir`, in order."""
    (file,) = Path(output_dir).glob("wandb/wandb/offline-run-*/run-*.wandb")
    losses = []
    for record in _read_finished_run(file):
        if record.WhichOneof("record_type") != "history":
            continue
        for item in record.history.item:
            if ("/".join(item.nested_key) or item.key) == "train/loss":
                losses.append(json.loads(item.value_json))
    return losses


def _read_finished_run(file: Path) -> list[Record]:
    """The records of a run that W&B was told to finish. `wandb.finish` returns before W&B's own
    process has written the last of them, which is of the kind "exit".
    """
    deadline = time.monotonic() + SECONDS_TO_WRITE
    while True:
        records = [Record.FromString(data) for data in _read_log(file.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        assert time.monotonic() < deadline, f"W&B has not written the end of {file}"
        time.sleep(0.05)


def _read_log(raw: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log after its 7-byte heading: each piece has a checksum (4 bytes),
    its length (2) and its kind (1); a record is one whole piece (1), or several up to a last one
    (4)."""
    place, record = 7, b""
    while place + 7 < len(raw):
        left = LOG_BLOCK - place % LOG_BLOCK
        if left < 7:  # no heading fits: the block's end is padding
            place += left
            continue
        length, kind = struct.unpack_from("<HB", raw, place + 4)
        if place + 7 + length > len(raw):  # still being written
            return
        record += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def take_functions(lesson: str, *names: str, **scope: object) -> list[Callable]:
    """Functions as a lesson's cells define them; `scope` is what they use."""
    tree = ast.parse((NOTEBOOKS / f"{lesson}.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") in names]
    exec(compile(tree, lesson, "exec"), scope)
    return [scope[name] for name in names]

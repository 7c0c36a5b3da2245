"""Checkpoints: which one a run may go on from.

Contract: a run goes on only from a whole checkpoint of the same settings, rows and model.
"""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from datasets import Dataset
from torch import nn

from lessons_lib.errors import SettingError
from lessons_lib.training.ema import WeightEma, trained_parameters
from lessons_lib.training.settings import TrainSettings


def describe_run(model: nn.Module, rows: Dataset, settings: TrainSettings, **more: object) -> dict:
    """All that must be equal for a run to be gone on with: settings, rows, and what is trained."""
    digest = hashlib.sha256(repr((rows["input_ids"][:], rows["labels"][:])).encode()).hexdigest()
    trained = sum(parameter.numel() for parameter in trained_parameters(model))
    return asdict(settings) | {"rows": digest, "trained": trained, **more}


def prepare_checkpoints(output_dir: Path, run: dict, resume: bool) -> str | None:
    """The last whole checkpoint to resume from; clears what an earlier, other run left behind."""
    output_dir.mkdir(parents=True, exist_ok=True)
    record = output_dir / "settings.json"
    if resume and record.is_file() and json.loads(record.read_text(encoding="utf-8")) != run:
        raise SettingError(
            "the folder holds a run with other settings or rows.",
            where=str(output_dir),
            remedy="the same ones, another output folder, or a start without resuming.",
        )
    whole = [path for path in output_dir.glob("checkpoint-*") if resume and _is_whole(path, run)]
    keep = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
    for path in output_dir.glob("checkpoint-*"):
        if path != keep:
            shutil.rmtree(path)
    record.write_text(json.dumps(run), encoding="utf-8")
    return str(keep) if keep else None


def _is_whole(checkpoint: Path, run: dict) -> bool:
    """The Trainer writes its state last, and `WeightEma` after it: with them, all is there."""
    if run["ema_decay"] and not (checkpoint / WeightEma.FILE).is_file():
        return False
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True

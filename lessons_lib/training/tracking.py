"""Experiment trackers: Weights & Biases, trackio, TensorBoard.

Contract: a tracker never asks anything and never ends a training.
"""

import importlib.util
import os
import sys
from pathlib import Path

import wandb

from lessons_lib.errors import SettingError
from lessons_lib.hardware import join_processes

TRACKERS = ("none", "wandb", "trackio", "tensorboard")
# to go online; its own limit is 90, which a machine without a network always waits for
WANDB_SECONDS = 10
WANDB_REMEDY = 'correct or unset the variables WANDB_…, or train with report_to="none".'


def prepare_tracking(report_to: str, output_dir: Path) -> None:
    """Sets a tracker up so that it never asks anything and never ends a training.

    W&B runs offline unless WANDB_API_KEY is set, or WANDB_MODE says otherwise; where it cannot go
    online, it goes on offline and says so. Raises SettingError for a tracker that there is not, or
    is not installed.
    """
    if report_to not in TRACKERS:
        raise SettingError(
            f"there is no tracker {report_to!r}.", remedy=f"one of {', '.join(TRACKERS)}."
        )
    if report_to != "none" and importlib.util.find_spec(report_to) is None:
        remedy = f'{sys.executable} -m pip install {report_to}, or report_to="none".'
        raise SettingError(f"the tracker {report_to!r} is not installed.", remedy=remedy)
    folder = output_dir.resolve() / report_to
    if report_to == "wandb":
        folder.mkdir(parents=True, exist_ok=True)
        if join_processes().is_main_process:
            _begin_wandb(output_dir.name, folder)
    elif report_to != "none":
        os.environ |= {"TRACKIO_DIR": str(folder), "TENSORBOARD_LOGGING_DIR": str(folder)}


def _begin_wandb(name: str, folder: Path) -> None:
    """Begins a W&B run, online or offline; the Trainer itself would take the first run's folder
    again.
    """
    key = os.environ.get("WANDB_API_KEY", "").strip()
    if key:
        os.environ["WANDB_API_KEY"] = key  # W&B refuses one with a space or a line end
    mode = os.environ.setdefault("WANDB_MODE", "online" if key else "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_INIT_TIMEOUT", str(WANDB_SECONDS))
    run = {"project": "lessons_lib", "name": name, "dir": str(folder)}
    try:
        wandb.init(**run, mode=mode)
    except wandb.Error as error:  # no network, or a wrong key
        os.environ["WANDB_MODE"] = "offline"  # the next training need not wait for the same
        _begin_wandb_offline(run)
        reason = _shorten(error).rstrip(".")
        print(f"W&B cannot go online ({reason}). This run is kept offline in {folder}.", flush=True)
    except ValueError as error:  # a variable that W&B cannot read
        raise SettingError(_shorten(error), where="W&B", remedy=WANDB_REMEDY) from error


def _begin_wandb_offline(run: dict[str, str]) -> None:
    try:
        wandb.init(**run, mode="offline")  # W&B reads WANDB_MODE once, so it must be told here
    except wandb.Error as error:
        raise SettingError(_shorten(error), where="W&B", remedy=WANDB_REMEDY) from error


def _shorten(error: Exception) -> str:
    """An error of W&B's in one line, without its hints for programmers."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.partition(" Consider ")[0].partition(" [type=")[0]

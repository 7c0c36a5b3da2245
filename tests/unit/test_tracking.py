"""Tracking: never asks anything, never ends a training."""

import threading

import pytest
from helpers import read_tracked_losses
from transformers import TrainerCallback

from lessons_lib import models, training
from lessons_lib.errors import SettingError
from lessons_lib.training import monitoring

SETTINGS = training.TrainSettings(1e-2, epochs=2, batch_size=8, seed=3)


def run(tokens, folder, **options):
    """Trains a tiny model and tracks it."""
    model = models.load_classifier("tiny", seed=3)[0]
    return training.train(
        model,
        tokens["train"],
        None,
        SETTINGS,
        task=training.classification(model),
        output_dir=folder,
        progress=False,
        **options,
    )


def test_unknown_tracker_is_refused(tmp_path):
    """Failing means a typo in report_to is found after the training."""
    with pytest.raises(SettingError, match="one of none, wandb"):
        training.prepare_tracking("wandbb", tmp_path)


@pytest.mark.slow
def test_tensorboard_gets_the_loss(tokens, tmp_path):
    """Failing means report_to="tensorboard" writes nothing."""
    run(tokens, tmp_path, report_to="tensorboard")
    assert list((tmp_path / "tensorboard").rglob("events.out.*"))


@pytest.mark.slow
def test_wandb_runs_offline_and_never_asks(tokens, tmp_path, monkeypatch):
    """Failing means a headless run hangs at a login prompt."""
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    result = run(tokens, tmp_path, report_to="wandb")
    expected = result.history["loss"].dropna().tolist()
    assert read_tracked_losses(tmp_path) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_trackio_runs_without_an_account(tokens, tmp_path, monkeypatch):
    """Failing means report_to="trackio" needs a network."""
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    run(tokens, tmp_path, report_to="trackio")
    assert list((tmp_path / "trackio").rglob("*.db"))


@pytest.mark.slow
def test_trackers_get_the_machines_load_beside_the_loss(tokens, tmp_path, monkeypatch):
    """Failing means W&B shows a loss and not what the machine was busy with."""
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    run(tokens, tmp_path, report_to="wandb")
    logged = training.read_wandb_run(tmp_path).dropna(subset="train/loss")
    assert (logged["train/memory_mb"] > 50).all()
    assert logged["train/cpu_percent"].between(0, 100).all()


def test_a_training_says_what_the_machine_was_busy_with(tokens, tmp_path):
    """Failing means the monitor misses steps, or counts the model as the training's memory."""
    result = run(tokens, tmp_path)
    assert result.resources["step"].tolist() == list(range(1, result.steps + 1))
    assert result.resources["seconds"].is_monotonic_increasing
    assert 0 <= result.rise_mb < result.peak_mb
    assert "MB" in training.describe_resources(result.resources)


def test_a_training_that_ends_in_an_error_is_read_no_longer(tokens, tmp_path):
    """Failing means a thread goes on reading after every interrupted training."""

    class Interrupt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path, callbacks=(Interrupt(),))
    assert threading.active_count() == before


def test_a_gpu_that_does_not_tell_its_temperature_stops_nothing(monkeypatch):
    """Failing means a training ends because NVML is missing, or refuses a reading."""

    def refuse():
        raise RuntimeError("not supported")

    monkeypatch.setattr(monitoring.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(monitoring, "current_memory_mb", lambda: 1.0)
    readings = {"gpu_celsius": (refuse, 1), "gpu_watts": (lambda: 5000, 1e-3)}
    monkeypatch.setattr(monitoring, "GPU_READINGS", readings)
    load = monitoring.read_load()
    assert load["gpu_watts"] == 5.0
    assert "gpu_celsius" not in load


def test_no_offline_run_is_a_clear_error(tmp_path):
    """Failing means a reader with an account gets a traceback from the lesson's picture."""
    with pytest.raises(training.RecordError, match="no offline run of W&B"):
        training.read_wandb_run(tmp_path)

"""Tracking: never asks anything, never ends a training."""

import pytest
from helpers import read_tracked_losses

from lessons_lib import models, training
from lessons_lib.errors import SettingError

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

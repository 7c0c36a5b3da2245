"""Profiles: one setting decides what a lesson runs on."""

import pytest

from lessons_lib import profiles
from lessons_lib.hardware import Precision

LESSON = "04_distilbert_lora_imdb"


@pytest.mark.parametrize("name", ["smoke", "laptop", "gpu"])
def test_every_profile_loads(name):
    """Failing means a profile misses a field or has one that nobody reads."""
    assert profiles.load_profile(LESSON, name).name == name


def test_environment_chooses_profile_and_data(monkeypatch):
    """Failing means LESSONS_PROFILE or DATA= is ignored."""
    monkeypatch.setenv("LESSONS_PROFILE", "smoke")
    monkeypatch.setenv("LESSONS_DATA", "mine.csv")
    profile = profiles.load_profile(LESSON)
    assert (profile.name, profile.reviews) == ("smoke", "mine.csv")


def test_notebook_may_override_a_field():
    """Failing means a reader cannot change one setting in plain sight."""
    assert profiles.load_profile(LESSON, "laptop", epochs=1).epochs == 1


def test_unknown_names_are_refused(monkeypatch):
    """Failing means a typo silently runs something else."""
    with pytest.raises(ValueError, match="one of smoke, laptop, gpu"):
        profiles.load_profile(LESSON, "labtop")
    with pytest.raises(ValueError, match="no field epoch"):
        profiles.load_profile(LESSON, "laptop", epoch=1)


def test_slow_machines_get_fewer_rows(monkeypatch):
    """Failing means the lesson takes twice its promised minutes on most laptops."""
    rows = {}
    for dtype in ("bfloat16", "float32"):
        monkeypatch.setattr(
            profiles, "choose_precision", lambda dtype=dtype: Precision(dtype, "test")
        )
        rows[dtype] = profiles.load_profile(LESSON, "laptop").train_rows
    assert rows["float32"] < rows["bfloat16"] == 2000

"""Profiles: one setting decides what a lesson runs on."""

import tomllib
from dataclasses import replace

import pytest

from lessons_lib import profiles
from lessons_lib.errors import SettingError
from lessons_lib.hardware import Precision
from lessons_lib.report.results import read_results

LESSON = "04_distilbert_lora_imdb"


TABLES = tomllib.loads(profiles.PROFILE_FILE.read_text(encoding="utf-8"))
PROFILES = [name for name in TABLES if name != profiles.USER_DATA]


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_loads(name):
    """Failing means a profile misses a field or has one that nobody reads."""
    assert profiles.load_profile(LESSON, name).name == name


def test_environment_chooses_profile_and_data(monkeypatch):
    """Failing means LESSONS_PROFILE or DATA= is ignored."""
    monkeypatch.setenv("LESSONS_PROFILE", "smoke")
    monkeypatch.setenv("LESSONS_DATA", "mine.csv")
    profile = profiles.load_profile(LESSON)
    assert (profile.name, profile.dataset) == ("smoke", "mine.csv")


def test_notebook_may_override_a_field():
    """Failing means a reader cannot change one setting in plain sight."""
    assert profiles.load_profile(LESSON, "laptop", epochs=1).epochs == 1


def test_unknown_names_are_refused(monkeypatch):
    """Failing means a typo silently runs something else."""
    with pytest.raises(ValueError, match=f"one of {', '.join(PROFILES)}"):
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


# A lesson, what its profile takes fewer of, and the benchmark of such work.
SHORTENED = [
    ("01_gpt_vs_bert", "train_rows", ("training", "ours", "snippets")),
    ("04_distilbert_lora_imdb", "train_rows", ("training", "ours", "snippets")),
]


@pytest.mark.parametrize(("lesson", "field", "bench"), SHORTENED)
def test_rows_of_slow_machines_follow_from_measured_speeds(monkeypatch, lesson, field, bench):
    """Failing means a lesson trains much longer on laptops without bf16 than on those with it: the
    table of profiles no longer fits what was measured."""
    name, system, subset = bench
    seconds = {}
    for dtype in ("bfloat16", "float32"):
        monkeypatch.setattr(
            profiles, "choose_precision", lambda dtype=dtype: Precision(dtype, "test")
        )
        speed = read_results(f"{name}_{dtype}", "bench").find(
            system, "rows_per_second", subset=subset
        )
        seconds[dtype] = getattr(profiles.load_profile(lesson, "laptop"), field) / speed.value
    assert seconds["float32"] <= 1.5 * seconds["bfloat16"]


@pytest.fixture
def with_profile(tmp_path, monkeypatch):
    """Adds tables to the profiles."""

    def add(text):
        file = tmp_path / "profiles.toml"
        file.write_text(profiles.PROFILE_FILE.read_text(encoding="utf-8") + text)
        monkeypatch.setattr(profiles, "PROFILE_FILE", file)

    return add


def test_profile_inherits_what_it_does_not_say(with_profile):
    """Failing means a new profile repeats twenty lines of another, and drifts from them."""
    with_profile(
        '[t4]\ninherits = "gpu"\nmax_tokens = 256\n[t4.05_rag_vs_finetuning]\ntrained_terms = 9\n'
    )
    parent, child = (profiles.load_profile(LESSON, name) for name in ("gpu", "t4"))
    assert (child.name, child.max_tokens) == ("t4", 256)
    assert replace(child, name="gpu", max_tokens=parent.max_tokens) == parent
    retrieval = profiles.load_profile("05_rag_vs_finetuning", "t4")
    # the parent's, for this lesson
    assert (retrieval.trained_terms, retrieval.max_tokens) == (9, 1024)


@pytest.mark.parametrize("parent", ["nobody", "t4"])
def test_profile_cannot_inherit_from_nothing(with_profile, parent):
    """Failing means a slip in the file ends in a traceback, or never ends."""
    with_profile(f'[t4]\ninherits = "{parent}"\n')
    with pytest.raises(SettingError, match="name another profile"):
        profiles.load_profile(LESSON, "t4")

"""Every arm of every study, carried out on tiny models and data made up here."""

import importlib
import json

import numpy as np
import pytest

from lessons_lib.paths import REPOSITORY
from lessons_lib.studies import invent, quantization, study_05

FACTS = 16  # of lesson 05's 150
FILES = sorted((REPOSITORY / "lessons_lib" / "studies").glob("study_[0-9][0-9].py"))
STUDIES = [importlib.import_module(f"lessons_lib.studies.{file.stem}") for file in FILES]
ARMS = [
    pytest.param(study, arm, id=f"{study.LESSON[:2]} {arm}")
    for study in STUDIES
    for arm in study.ARMS
    if arm not in getattr(study, "SAME", ())  # these are read from another study's file
]


def write_snippets(folder):
    """Rated snippets of three domains, in the format of the packaged ones."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    words = ["film", "plot", "good", "bad", "very", "slow", "acting", "scene", "not", "the"]
    for name in ("movieReview", "nytEditorial", "amazonReview"):
        truth, rated = [], []
        for number in range(150):
            ratings = np.clip(np.round(chance.normal((number % 3 - 1) * 2, 0.5, 20)), -4, 4)
            text = " ".join(chance.choice(words, 6)) + f" {number}"
            truth.append(f"{number // 3}_{number % 3}\t{ratings.mean()}\t{text}")
            values = json.dumps(ratings.astype(int).tolist())
            rated.append(f"{number // 3}_{number % 3}\t{ratings.mean()}\t1.0\t{values}")
        (folder / f"{name}Snippets_GroundTruth.txt").write_text("\n".join(truth))
        (folder / f"{name}Snippets_anonDataRatings.txt").write_text("\n".join(rated))


def write_ontology(folder):
    """Terms whose definitions share no word with them, in the format of the packaged ontology."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    words = ["increased", "size", "of", "the", "left", "hand", "during", "sleep", "without", "pain"]
    blocks = ["format-version: 1.2"]
    for number in range(60):
        definition = " ".join(chance.permutation(words)) + f" level {number}"
        blocks.append(f'[Term]\nid: HP:{number}\nname: Zq{number}xia\ndef: "{definition}." []')
    (folder / "hp.obo").write_text("\n\n".join(blocks))


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A cache that holds made-up snippets and terms."""
    folder = tmp_path_factory.mktemp("cache")
    write_snippets(folder / "snippets")
    write_ontology(folder / "hpo")
    return folder


class StandInForHqq:
    """HQQ's quantizer as the studies call it; its package is installed for a study alone."""

    @staticmethod
    def quantize(weight, **options):
        return weight, {}

    @staticmethod
    def dequantize(weight, meta):
        return weight


@pytest.fixture
def small(packages, monkeypatch, tmp_path):
    """The studies on tiny models, with few facts."""
    monkeypatch.setenv("LESSONS_CACHE", str(packages))
    monkeypatch.setenv("STUDY_PROFILE", "smoke")
    monkeypatch.setattr(quantization, "load_hqq", lambda: StandInForHqq)
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps(invent.invent_facts(FACTS)))
    for name, value in {
        "FACTS": facts,
        "PUBLISHED": FACTS,
        "WRITTEN": 4,
        "TEXTS": 4,
        "CHANGED": 4,
        "WORK": packages / "work",
    }.items():
        monkeypatch.setattr(study_05, name, value)


@pytest.mark.slow
@pytest.mark.parametrize(("study", "arm"), ARMS)
def test_arm_can_be_carried_out(small, study, arm):
    """Failing means `make study` stops with an error, after an hour perhaps."""
    run = study.run_arm(arm, 0)
    assert run.arrays
    for name, values in run.arrays.items():
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), name
    assert all(np.isfinite(value) for value in run.cost.values())

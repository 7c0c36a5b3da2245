"""Results: what page and README print is what was measured."""

import json

import numpy as np
import pytest
from helpers import hash_weights
from peft import LoraConfig

from lessons_lib import results
from lessons_lib.decoders import load_decoder
from lessons_lib.dialogs import ask
from lessons_lib.evaluation import Metric
from lessons_lib.models import add_lora
from lessons_lib.ops import provenance
from lessons_lib.ops.readme import SHOWN, render_results
from lessons_lib.studies import study, study_01, study_02, study_03, study_04

each_study = pytest.mark.parametrize(
    "module", [study_01, study_02, study_03, study_04], ids=lambda module: module.LESSON
)


@pytest.fixture(scope="module")
def published():
    return results.read_results(study_04.LESSON, "study")


@each_study
def test_study_table_follows_from_its_predictions(module):
    """Failing means a published number was not computed from the published predictions."""
    published = results.read_results(module.LESSON, "study")
    recomputed = module.recompute(results.read_predictions(module.LESSON))
    if module is study_02:  # the search chooses; a decoder has ten marks, an adapter four changes as well
        assert len(recomputed) == 4 + 10 * (len(module.ARMS) - 1) + 4 * (len(module.ARMS) - 2) + 3
    elif module is study_03:
        # 11 marks of a system: on three domains if it was trained, on one if it was asked
        trained = len(module.ARMS) - 3
        asked = 2 * 3  # without and with examples; as it is, and freed of its lean in two ways
        compared = len(module.COMPARISONS) + 2 * sum("shot" not in "".join(c) for c in module.COMPARISONS)
        assert len(recomputed) == 11 * (3 * trained + asked) + compared + 2
    else:
        assert len(recomputed) == 4 * len(module.ARMS) + len(module.COMPARISONS)
    for name, metric in recomputed.items():
        assert vars(published.metrics[name]) == pytest.approx(vars(metric), abs=1e-9), name


def test_changed_predictions_change_the_table(published):
    """Failing means the recomputation above cannot fail."""
    kept = results.read_predictions(study_04.LESSON)
    kept = {name: kept[name] for name in ("labels.test", "test.lora_2000")}
    kept["test.lora_2000"] = kept["test.lora_2000"][:, ::-1]
    changed = study.recompute_metrics(kept, [])
    assert changed["lora_2000.accuracy"] != published.metrics["lora_2000.accuracy"]


@each_study
def test_every_arm_of_the_study_is_published(module):
    """Failing means the study has moved on and its table has not: run `make study`."""
    published = results.read_results(module.LESSON, "study")
    main = module.HEADLINE[0].split(".")[1]
    for arm in module.ARMS:
        assert f"{arm}.{main}" in published.metrics
    assert published.seeds == list(module.SEEDS)


def test_lesson_02_keeps_what_it_promises():
    """Failing means the study no longer shows what the lesson and the README say of it."""
    found = results.read_results(study_02.LESSON, "study").metrics
    assert found["lora.gain_trained"].value >= 0.15
    assert found["lora.gain_trained"].low > 0
    assert found["lora.general_loss_change"].value <= 0.02
    assert found["lora.stop_rate"].value >= 0.95
    assert found["lora.choice_blind"].value < 0.3


def test_lesson_03_keeps_what_it_promises():
    """Failing means the study no longer shows what the lesson and the README say of it."""
    found = results.read_results(study_03.LESSON, "study").metrics
    best = max(("lora_label", "lora_head"), key=lambda name: found[f"{name}.accuracy"].value)
    assert found[f"{best}.accuracy"].value >= 0.74
    assert found[f"{best}.macro_f1"].value >= 0.73
    for rival in ("tfidf", "nbsvm", "vader", "zero_shot"):
        assert found[f"{best}_minus_{rival}.accuracy"].low > 0


def test_lesson_01_repeats_the_study_of_lesson_04():
    """Failing means the two lessons print different numbers for the same arm: run both studies."""
    ours, theirs = (results.read_results(m.LESSON, "study").metrics for m in (study_01, study_04))
    for name, other in study_01.SAME.items():
        assert ours[f"{name}.accuracy"] == theirs[f"{other}.accuracy"]


def test_finished_arms_are_not_run_again(tmp_path, monkeypatch):
    """Failing means an interrupted study starts anew, or a changed arm keeps its old numbers."""
    monkeypatch.setattr(study, "WORK", tmp_path)
    run = study.keep_probabilities(np.array([[0.2, 0.8]]), np.array([1]))
    monkeypatch.setattr(study_04, "run_arm", lambda name, seed: run)
    assert not study._is_done(study_04, "majority", 0)
    study._run_one_arm(study_04.__name__, "majority", [0])
    assert study._is_done(study_04, "majority", 0)
    monkeypatch.setitem(study_04.ARMS, "majority", ("majority", 999))
    assert not study._is_done(study_04, "majority", 0)


@pytest.mark.parametrize("recipe", [study_02, study_03], ids=lambda module: module.LESSON)
def test_study_trains_a_decoder_by_its_recipe(recipe):
    """Failing means the arms with an adapter end in an error, or train nothing."""
    model, tokenizer = load_decoder("tiny")
    model = add_lora(model, LoraConfig(**recipe.LORA), seed=0)
    before = hash_weights(model, lambda name: "lora_B" in name)
    settings = recipe.SETTINGS if recipe is study_02 else recipe.LABEL
    dialogs = [ask(f"Is {n} even?", "yes" if n % 2 == 0 else "no") for n in range(40)]
    cost = study.teach(model, tokenizer, dialogs, {**settings, "seed": 1}, max_tokens=256)
    assert hash_weights(model, lambda name: "lora_B" in name) != before
    assert cost["tokens"] > 40
    assert cost["seconds"] > 0


def test_results_survive_writing_and_reading(tmp_path):
    """Failing means the results format lost a field."""
    metrics = {"a.accuracy": Metric(0.5, 0.4, 0.6, 10)}
    written = results.collect_results("09_x", "laptop", [0], metrics, ("a.accuracy", "a.accuracy"))
    results.write_results(written, tmp_path)
    read = results.read_results("09_x", "laptop", tmp_path)
    assert read.metrics == written.metrics
    assert read.peak_rss_mb > 50


def test_missing_results_name_the_command(tmp_path):
    """Failing means a fresh fork does not know how numbers are made."""
    with pytest.raises(results.ResultsError, match="make study LESSON=09"):
        results.read_results("09_x", "study", tmp_path)


@pytest.mark.parametrize("profile", ["laptop", "study"])
def test_results_files_carry_what_the_format_promises(profile):
    """Failing means a published number has no n, no interval, no seeds or no machine."""
    content = json.loads((results.PUBLISHED / profile / f"{study_04.LESSON}.json").read_text())
    wanted = {"lesson", "profile", "seeds", "metrics", "seconds", "peak_rss_mb", "machine", "versions"}
    assert wanted <= set(content)
    for name, metric in content["metrics"].items():
        assert set(metric) == {"value", "low", "high", "n"}, name
        assert metric["low"] <= metric["value"] <= metric["high"], name


def test_readme_prints_the_published_numbers():
    """Failing means the README claims something else than was measured: run `make notebooks`."""
    readme = (results.REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert render_results() in readme


def test_stale_results_are_known():
    """Failing means numbers are older than their code, and nobody says so: `make notebooks`, or a line in
    known_stale.toml; or a file named there has been run anew: take its line out."""
    stale = provenance.list_stale()
    known = provenance.read_known_stale()
    assert {name: changed for name, changed in stale.items() if name not in known} == {}
    assert set(known) - set(stale) == set()
    assert all(len(reason.split()) > 4 for reason in known.values())


@pytest.fixture
def small_package(tmp_path):
    """A lesson, two modules and the tables, in a folder of their own."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data" / "samples").mkdir(parents=True)
    (tmp_path / "lessons_lib").mkdir()
    for name in provenance.TABLES:
        (tmp_path / name).write_text("x = 1")
    (tmp_path / provenance.PROFILES).write_text(
        "[laptop]\nrows = 1\n[laptop.01_x]\nmore = 2\n[laptop.02_y]\nother = 3\n"
    )
    (tmp_path / "data" / "samples" / "facts.json").write_text("[]")
    (tmp_path / "data" / "samples" / "other.json").write_text("[]")
    (tmp_path / "lessons_lib" / "deep.py").write_text("def f():\n    return 1\n")
    (tmp_path / "lessons_lib" / "near.py").write_text(
        'from lessons_lib import deep\n\n\nclass E(Exception):\n    """Doc."""\n\n\nFILE = "facts.json"\n'
    )
    cells = [
        '# %% tags=["colab"]\nimport os',
        "# %% [markdown]\n# Prose.",
        "# %%\nfrom lessons_lib.near import E",
    ]
    (tmp_path / "notebooks" / "01_x.py").write_text("\n\n".join(cells) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("lessons_lib/deep.py", "return 1", "return 2", True),
        ("lessons_lib/near.py", "Doc.", "Other words.", False),
        ("lessons_lib/near.py", "FILE", "# a comment\nFILE", False),
        ("notebooks/01_x.py", "Prose.", "Better prose.", False),
        ("notebooks/01_x.py", "import os", "import sys", False),
        ("notebooks/01_x.py", "import E", "import E as F", True),
        ("lessons_lib/assets.toml", "1", "2", True),
        ("lessons_lib/profiles.toml", "rows = 1", "rows = 2", True),
        ("lessons_lib/profiles.toml", "more = 2", "more = 4", True),
        ("lessons_lib/profiles.toml", "other = 3", "other = 4", False),
        ("data/samples/facts.json", "[]", "[1]", True),
        ("data/samples/other.json", "[]", "[1]", False),
    ],
)
def test_hash_follows_what_can_change_a_number(small_package, name, old, new, changes):
    """Failing means a number stays "fresh" when its code changes, or goes stale when a comment does."""
    lesson, path = small_package / "notebooks" / "01_x.py", small_package / name
    before = provenance.hash_sources(lesson, small_package)
    path.write_text(path.read_text().replace(old, new))
    after = provenance.hash_sources(lesson, small_package)
    assert (before != after) == changes
    assert [key for key in before if before[key] != after[key]] == ([name] if changes else [])


def test_study_keeps_the_sources_of_each_arm(tmp_path, monkeypatch):
    """Failing means `make study` declares arms fresh that were run with older code."""
    old, new = {"sources": '{"a.py": "1", "b.py": "2"}'}, {"sources": '{"a.py": "1", "b.py": "3"}'}
    assert study._merge_sources([old, old]) == {"a.py": "1", "b.py": "2"}
    assert study._merge_sources([old, new]) == {"a.py": "1", "b.py": "several"}
    assert study._merge_sources([new, {}]) == {"a.py": "several", "b.py": "several"}


def test_readme_says_what_the_studies_found():
    """Failing means an answer in the README's list of lessons no longer follows from the studies."""
    found = [results.read_results(lesson, "study").metrics for lesson in SHOWN]
    one, two, three, four, five = found
    assert one["bert_lora_all_minus_zero_shot.accuracy"].low > 0
    assert one["bert_lora_2000_minus_gpt_lora_2000.accuracy"].high <= 0.02
    assert 1.7 < two["lora.choice_trained"].value / two["base.choice_trained"].value < 2.1
    assert two["lora.gain_untrained"].low < 0
    assert two["lora_minus_search.choice_trained"].low < 0 < two["lora_minus_search.choice_trained"].value
    assert three["lora_label_minus_bert_lora.accuracy"].low > 0
    assert three["zero_shot.accuracy"].low < three["majority.accuracy"].value
    assert (
        four["lora_2000_minus_full_2000.accuracy"].low < 0 < four["lora_2000_minus_full_2000.accuracy"].high
    )
    assert abs(four["classic_2000.accuracy"].value - four["nbsvm_2000.accuracy"].value) < 0.01
    assert five["invented.retrieved_minus_paraphrased.choice"].low > 0
    assert five["invented.raft_elsewhere_minus_retrieved.choice"].low > 0  # its three seeds: test_study_05
    assert five["invented.raft_elsewhere.abstained_unknown"].high < 0.2

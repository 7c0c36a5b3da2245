"""Results: what page and README print is what was measured."""

import json
import subprocess

import numpy as np
import pytest
from helpers import hash_weights
from peft import LoraConfig

from lessons_lib import report
from lessons_lib.course.readme import SHOWN, render_results
from lessons_lib.data.facts import ask
from lessons_lib.evaluation.intervals import Metric
from lessons_lib.models.decoder import load_decoder
from lessons_lib.models.lora import add_lora
from lessons_lib.paths import PUBLISHED, REPOSITORY
from lessons_lib.report import provenance
from lessons_lib.studies import study, study_01, study_02, study_03, study_04

each_study = pytest.mark.parametrize(
    "module", [study_01, study_02, study_03, study_04], ids=lambda module: module.LESSON
)


@pytest.fixture(scope="module")
def published():
    return report.read_results(study_04.LESSON, "study")


@each_study
def test_study_table_follows_from_its_predictions(module):
    """Failing means a published number was not computed from the published predictions."""
    published = report.read_results(module.LESSON, "study")
    recomputed = module.recompute(report.read_predictions(module.LESSON))
    # the search chooses; a decoder has ten marks, an adapter four changes as well
    if module is study_02:
        assert len(recomputed) == 4 + 10 * (len(module.ARMS) - 1) + 4 * (len(module.ARMS) - 2) + 3
    elif module is study_03:
        # 11 marks of a system: on three domains if it was trained, on one if it was asked
        trained = len(module.ARMS) - 3
        asked = 2 * 3  # without and with examples; as it is, and freed of its lean in two ways
        compared = len(module.COMPARISONS) + 2 * sum(
            "shot" not in "".join(c) for c in module.COMPARISONS
        )
        assert len(recomputed) == 11 * (3 * trained + asked) + compared + 2
    else:
        assert len(recomputed) == 4 * len(module.ARMS) + len(module.COMPARISONS)
    for name, metric in recomputed.items():
        assert vars(published.metrics[name]) == pytest.approx(vars(metric), abs=1e-9), name


def test_changed_predictions_change_the_table(published):
    """Failing means the recomputation above cannot fail."""
    kept = report.read_predictions(study_04.LESSON)
    kept = {name: kept[name] for name in ("labels.test", "test.lora_2000")}
    kept["test.lora_2000"] = kept["test.lora_2000"][:, ::-1]
    changed = study.recompute_metrics(kept, [])
    assert changed["lora_2000.accuracy"] != published.metrics["lora_2000.accuracy"]


@each_study
def test_every_arm_of_the_study_is_published(module):
    """Failing means the study has moved on and its table has not: run `make study`."""
    published = report.read_results(module.LESSON, "study")
    main = module.HEADLINE[0].split(".")[1]
    for arm in module.ARMS:
        assert f"{arm}.{main}" in published.metrics
    assert published.seeds == list(module.SEEDS)


def test_lesson_02_keeps_what_it_promises():
    """Failing means the study no longer shows what the lesson and the README say of it."""
    found = report.read_results(study_02.LESSON, "study").metrics
    assert found["lora.gain_trained"].value >= 0.15
    assert found["lora.gain_trained"].low > 0
    assert found["lora.general_loss_change"].value <= 0.02
    assert found["lora.stop_rate"].value >= 0.95
    assert found["lora.choice_blind"].value < 0.3


def test_lesson_03_keeps_what_it_promises():
    """Failing means the study no longer shows what the lesson and the README say of it."""
    found = report.read_results(study_03.LESSON, "study").metrics
    best = max(("lora_label", "lora_head"), key=lambda name: found[f"{name}.accuracy"].value)
    assert found[f"{best}.accuracy"].value >= 0.74
    assert found[f"{best}.macro_f1"].value >= 0.73
    for rival in ("tfidf", "nbsvm", "vader", "zero_shot"):
        assert found[f"{best}_minus_{rival}.accuracy"].low > 0


def test_lesson_01_repeats_the_study_of_lesson_04():
    """Failing means the two lessons print different numbers for the same arm: run both studies."""
    ours, theirs = (report.read_results(m.LESSON, "study").metrics for m in (study_01, study_04))
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
    written = report.collect_results("09_x", "laptop", [0], metrics, ("a.accuracy", "a.accuracy"))
    report.write_results(written, tmp_path)
    read = report.read_results("09_x", "laptop", tmp_path)
    assert read.metrics == written.metrics
    assert read.peak_rss_mb > 50


def test_missing_results_name_the_command(tmp_path):
    """Failing means a fresh fork does not know how numbers are made."""
    with pytest.raises(report.ResultsError, match="make study LESSON=09"):
        report.read_results("09_x", "study", tmp_path)


@pytest.mark.parametrize("profile", ["laptop", "study"])
def test_results_files_carry_what_the_format_promises(profile):
    """Failing means a published number has no n, no interval, no seeds or no machine."""
    content = json.loads((PUBLISHED / profile / f"{study_04.LESSON}.json").read_text())
    wanted = {
        "lesson",
        "profile",
        "seeds",
        "metrics",
        "seconds",
        "peak_rss_mb",
        "machine",
        "versions",
    }
    assert wanted <= set(content)
    for name, metric in content["metrics"].items():
        assert set(metric) == {"value", "low", "high", "n"}, name
        assert metric["low"] <= metric["value"] <= metric["high"], name


def test_readme_prints_the_published_numbers():
    """Failing means the README claims something else than was measured: run `make notebooks`."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert render_results() in readme


def test_every_published_number_names_its_commit():
    """Failing means nobody can say with which code a number was measured."""
    for path in PUBLISHED.glob("*/*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["commits"], path


@pytest.fixture
def small_clone(tmp_path):
    """A repository with a lesson, the module it imports, another module, and a result of the first
    commit.
    """
    for name, text in {
        "notebooks/01_x.py": "from lessons_lib import near\n",
        "lessons_lib/near.py": "from lessons_lib.deep import f\n",
        "lessons_lib/deep.py": "def f():\n    return 1\n",
        "lessons_lib/other.py": "x = 1\n",
        "lessons_lib/profiles.toml": "rows = 1\n",
        "data/samples/facts.json": "[]",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    commit_all(tmp_path)
    file = tmp_path / "data" / "results" / "laptop" / "01_x.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"commits": [provenance.read_commit(tmp_path)]}))
    return tmp_path


def commit_all(folder):
    """Puts a folder under git, or commits what has changed in it."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("lessons_lib/deep.py", True),
        ("notebooks/01_x.py", True),
        ("lessons_lib/profiles.toml", True),
        ("data/samples/facts.json", True),
        ("lessons_lib/other.py", False),
    ],
)
def test_changes_since_a_number_are_listed(small_clone, name, listed):
    """Failing means a number stays "fresh" when its code changes, or goes stale for another
    lesson's.
    """
    published = small_clone / "data" / "results"
    assert provenance.list_changes(small_clone, published) == {"laptop/01_x": []}
    (small_clone / name).write_text((small_clone / name).read_text() + "\n# changed\n")
    assert provenance.read_commit(small_clone).endswith("+")
    for _ in range(2):  # before and after a commit
        assert provenance.list_changes(small_clone, published) == {
            "laptop/01_x": [name] if listed else []
        }
        commit_all(small_clone)


def test_moved_file_has_not_changed(small_clone):
    """Failing means every move of a module makes all numbers stale."""
    (small_clone / "lessons_lib" / "deep").mkdir()
    move = [
        "git",
        "-C",
        str(small_clone),
        "mv",
        "lessons_lib/deep.py",
        "lessons_lib/deep/__init__.py",
    ]
    subprocess.run(move, check=True)
    assert provenance.list_changes(small_clone, small_clone / "data" / "results") == {
        "laptop/01_x": []
    }


def test_copy_without_git_has_no_commit(tmp_path):
    """Failing means a lesson cannot run in a copy that was downloaded as an archive."""
    assert provenance.read_commit(tmp_path) == ""
    with pytest.raises(provenance.ProvenanceError, match="Remedy"):
        provenance.list_changes(tmp_path, tmp_path)


def test_readme_says_what_the_studies_found():
    """Failing means an answer in the README's list of lessons no longer follows from the
    studies.
    """
    found = [report.read_results(lesson, "study").metrics for lesson in SHOWN]
    one, two, three, four, five = found
    assert one["bert_lora_all_minus_zero_shot.accuracy"].low > 0
    assert one["bert_lora_2000_minus_gpt_lora_2000.accuracy"].high <= 0.02
    assert 1.7 < two["lora.choice_trained"].value / two["base.choice_trained"].value < 2.1
    assert two["lora.gain_untrained"].low < 0
    assert (
        two["lora_minus_search.choice_trained"].low
        < 0
        < two["lora_minus_search.choice_trained"].value
    )
    assert three["lora_label_minus_bert_lora.accuracy"].low > 0
    assert three["zero_shot.accuracy"].low < three["majority.accuracy"].value
    assert (
        four["lora_2000_minus_full_2000.accuracy"].low
        < 0
        < four["lora_2000_minus_full_2000.accuracy"].high
    )
    assert abs(four["classic_2000.accuracy"].value - four["nbsvm_2000.accuracy"].value) < 0.01
    assert five["invented.retrieved_minus_paraphrased.choice"].low > 0
    # its three seeds: test_study_05
    assert five["invented.raft_elsewhere_minus_retrieved.choice"].low > 0
    assert five["invented.raft_elsewhere.abstained_unknown"].high < 0.2

"""Results: what page and README print is what was measured."""

import importlib
import json
import subprocess
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from lessons_lib import evaluation, report
from lessons_lib.course.readme import render_results
from lessons_lib.data.facts import make_example
from lessons_lib.evaluation.records import IntervalKind, Metric, MetricName, Metrics
from lessons_lib.paths import PUBLISHED, REPOSITORY
from lessons_lib.report import provenance
from lessons_lib.studies import study, study_01, study_02, study_03, study_04
from lessons_lib.training import FACTS

STUDIES = [
    importlib.import_module(f"lessons_lib.studies.{path.stem}")
    for path in sorted(Path(study.__file__).parent.glob("study_[0-9][0-9].py"))
]
each_study = pytest.mark.parametrize("module", STUDIES, ids=lambda module: module.LESSON)


COSTS = {
    "seconds",
    "tokens_per_second",
    "tokens",
    "loss",
    "peak_mb",
    "trainable",
    "checkpoint_mb",
    "rise_mb",
    "retrain_seconds",
    "index_update_seconds",
    "bits",
    "weight_error",
    "start_error",
}


def as_numbers(metric):
    """A metric's numbers, for an approximate comparison."""
    return [metric.value, metric.low, metric.high, metric.n]


@pytest.fixture(scope="module")
def published():
    return report.read_results(study_04.LESSON, "study")


@each_study
def test_study_table_follows_from_its_predictions(module):
    """Failing means a published number was not computed from the published predictions."""
    published = report.read_results(module.LESSON, "study")
    recomputed = module.recompute(report.read_predictions(module.LESSON))
    assert recomputed.keys() <= published.metrics.keys()
    kept_nowhere = {name.metric for name in published.metrics.keys() - recomputed.keys()}
    assert kept_nowhere <= COSTS, "a metric that nothing recomputes"
    for name, metric in recomputed.items():
        assert as_numbers(published.metrics[name]) == pytest.approx(as_numbers(metric), abs=1e-9)
        assert published.metrics[name].interval == metric.interval, name


def test_changed_predictions_change_the_table(published):
    """Failing means the recomputation above cannot fail."""
    kept = report.read_predictions(study_04.LESSON)
    kept = {name: kept[name] for name in ("labels.test", "test.lora_2000")}
    kept["test.lora_2000"] = kept["test.lora_2000"][:, ::-1]
    changed = study.recompute_metrics(kept, [])
    assert changed.find("lora_2000", "accuracy") != published.find("lora_2000", "accuracy")


@each_study
def test_every_arm_of_the_study_is_published(module):
    """Failing means the study has moved on and its table has not: run `make study`."""
    published = report.read_results(module.LESSON, "study")
    for arm in module.ARMS:
        system, subset = study.name_system(module, arm)
        assert any(
            name.system == system and name.metric not in COSTS and subset in (name.subset, "")
            for name in published.metrics
        ), arm
    assert published.seeds == list(module.SEEDS)


# what a lesson may take on two cores: seconds and 10⁹ bytes
PROMISED = {
    "01_gpt_vs_bert": (240, 3),
    "02_llama2_knowledge_augmentation": (300, 4),
    "03_llama2_sentiment": (300, 4),
    "04_distilbert_lora_imdb": (300, 3),
    "05_rag_vs_finetuning": (360, 4),
}


@pytest.mark.parametrize("lesson", PROMISED)
def test_published_run_keeps_its_minutes_and_memory(lesson):
    """Failing means the README promises a laptop less than a lesson takes."""
    run = report.read_results(lesson, "laptop")
    seconds, gigabytes = PROMISED[lesson]
    assert run.seconds <= seconds
    assert run.peak_mb <= 1000 * gigabytes


def test_lesson_02_keeps_what_it_promises():
    """Failing means the study no longer shows what the lesson and the README say of it."""
    study = report.read_results(study_02.LESSON, "study")
    assert study.find("lora", "gain_trained").value >= 0.15
    assert study.find("lora", "gain_trained").low > 0
    assert study.find("lora", "gain_adjusted").low > 0
    assert study.find("lora", "gain_fact_right_adjusted").low > 0
    assert study.find("lora", "general_loss_change").value <= 0.02
    assert study.find("lora", "stop_rate").value >= 0.95
    assert study.find("lora", "choice_blind").value == 0.25


def test_lesson_03_keeps_what_it_promises():
    """Failing means the study no longer shows what the lesson and the README say of it."""
    study = report.read_results(study_03.LESSON, "study")
    ways = ("lora_label", "lora_head")
    best = max(ways, key=lambda way: study.find(way, "accuracy").value)
    assert study.find(best, "accuracy").value >= 0.74
    assert study.find(best, "macro_f1").value >= 0.73
    for rival in ("tfidf", "nbsvm", "vader", "zero_shot"):
        assert study.find(best, "accuracy", minus=rival).low > 0


def test_lesson_01_repeats_the_study_of_lesson_04():
    """Failing means the two lessons print different numbers for the same arm: run both studies."""
    ours = report.read_results(study_01.LESSON, "study")
    theirs = report.read_results(study_04.LESSON, "study")
    for name, other in study_01.SAME.items():
        assert ours.find(name, "accuracy") == theirs.find(other, "accuracy")


def test_finished_arms_are_not_run_again(tmp_path, monkeypatch):
    """Failing means an interrupted study starts anew, or a changed arm keeps its old numbers."""
    monkeypatch.setattr(study, "WORK", tmp_path)
    run = study.keep_probabilities(np.array([[0.2, 0.8]]), np.array([1]))
    monkeypatch.setattr(study_04, "run_arm", lambda name, seed: run)
    assert not study.is_done(study_04, "majority", 0)
    study.run_one_arm(study_04.__name__, "majority", [0])
    assert study.is_done(study_04, "majority", 0)
    monkeypatch.setitem(study_04.ARMS, "majority", ("majority", 999))
    assert not study.is_done(study_04, "majority", 0)


@pytest.mark.parametrize("recipe", [FACTS, study_03.LABEL], ids=["facts", "label"])
def test_study_trains_a_decoder_by_its_recipe(recipe):
    """Failing means the arms with an adapter end in an error, or train nothing."""
    examples = [
        make_example(f"Is {number} even?", "yes" if number % 2 == 0 else "no")
        for number in range(40)
    ]
    tuned, cost = study.fine_tune_facts(recipe, "tiny", examples, max_tokens=256, seed=1)
    assert any(
        parameter.any() for name, parameter in tuned.model.named_parameters() if "lora_B" in name
    )
    assert cost["tokens"] > 40
    assert cost["seconds"] > 0


def collect(metrics):
    """Results of a lesson that there is not."""
    name = next(iter(metrics))
    return report.collect_results(
        "09_x",
        "laptop",
        seeds=[0],
        models={"encoder": "tiny"},
        data=["mine.csv"],
        metrics=metrics,
        headline=(name, name),
    )


def test_results_survive_writing_and_reading(tmp_path):
    """Failing means the results format lost a field."""
    metrics = Metrics()
    metrics.add("a", "accuracy", Metric(0.5, 0.4, 0.6, 10, "wilson"), subset="news", minus="b")
    written = collect(metrics)
    report.write_results(written, tmp_path)
    assert report.read_results("09_x", "laptop", tmp_path) == written


def test_results_say_what_was_trained_on_what():
    """Failing means a run on a reader's own file cannot be told from the course's own."""
    results = collect(Metrics({MetricName("a", "accuracy"): Metric(0.5, 0.4, 0.6, 10)}))
    assert results.data == ["mine.csv"]
    assert results.models == {"encoder": "tiny"}
    assert results.peak_mb > 50
    assert results.peak_of == "resident memory of the process"


def test_unmeasured_headline_is_refused():
    """Failing means the README's table ends in an error after the run, not before."""
    with pytest.raises(KeyError):
        report.collect_results(
            "09_x",
            "laptop",
            seeds=[0],
            models={},
            data=[],
            metrics=Metrics(),
            headline=(("a", "accuracy"), ("a", "accuracy")),
        )


def test_unmeasured_metric_names_its_neighbours():
    """Failing means a misspelt name ends in a bare KeyError."""
    metrics = Metrics({MetricName("a", "accuracy"): Metric(0.5, 0.4, 0.6, 10)})
    with pytest.raises(evaluation.MetricError, match="one of a: accuracy"):
        metrics.find("a", "acuracy")


def test_missing_results_name_the_command(tmp_path):
    """Failing means a fresh fork does not know how numbers are made."""
    with pytest.raises(report.ResultsError, match="make study LESSON=09"):
        report.read_results("09_x", "study", tmp_path)


@pytest.mark.parametrize("profile", ["laptop", "study"])
def test_results_files_carry_what_the_format_promises(profile):
    """Failing means a published number has no n, no interval, no seeds or no machine."""
    content = json.loads((PUBLISHED / profile / f"{study_04.LESSON}.json").read_text())
    assert {"machine", "versions", "models", "data", "peak_of", "commits"} <= set(content)
    assert content["seeds"]
    for record in content["metrics"]:
        assert record["low"] <= record["value"] <= record["high"], record
        assert record["n"] > 0, record
        assert record["interval"] in get_args(IntervalKind), record


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
        "notebooks/01_x.py": "from lessons_lib import near\nFILE = 'facts.json'\n",
        "lessons_lib/near.py": "from lessons_lib.deep import f\n",
        "lessons_lib/deep.py": "def f():\n    return 1\n",
        "lessons_lib/other.py": "x = 1\n",
        "lessons_lib/profiles.toml": "rows = 1\n",
        "data/samples/facts.json": "[]",
        "data/samples/others.json": "[]",
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
        ("data/samples/others.json", False),
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


def test_what_publishing_writes_is_no_change(small_clone):
    """Failing means the second lesson of a run is published as if its code had been changed."""
    (result,) = (small_clone / "data" / "results").rglob("*.json")
    result.write_text(result.read_text() + "\n")
    assert not provenance.read_commit(small_clone).endswith("+")


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

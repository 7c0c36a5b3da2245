"""The long runs behind the claims: arms × seeds, resumable, each arm in a process of its own.

Contract: an arm that has finished with the same description is never run again, neither here nor
where its published runs are at hand; predictions of every row are kept, and the published table is
computed from them alone. A lesson's arms live in
`study_NN.py`, as `LESSON`, `SEEDS`, `HEADLINE`, `MODELS` and `DATA` (the profile's fields that name
what is used), `ARMS` (name → a description that can be printed), `recompute(predictions)` (the
metrics) and `run_arm(name, seed) -> ArmRun`; where an arm's name is not its system's, also
`name_arm(arm)` (system and subset).
"""

import importlib
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from lessons_lib.data.facts import Conversation
from lessons_lib.evaluation.intervals import bootstrap_interval, compare_paired, seed_range
from lessons_lib.evaluation.metrics import score_classifier
from lessons_lib.evaluation.records import Metrics
from lessons_lib.hardware import (
    describe_machine,
    free_memory,
    peak_memory_mb,
    reset_peak_memory,
)
from lessons_lib.lessons import list_lessons
from lessons_lib.models.load import quiet_libraries
from lessons_lib.paths import BUILD, PUBLISHED
from lessons_lib.profiles import Profile, load_profile
from lessons_lib.report.provenance import read_commit
from lessons_lib.report.results import (
    ABOUT,
    Results,
    collect_results,
    locate_predictions,
    write_results,
)
from lessons_lib.training.recipe import FineTuned, Recipe, fine_tune_decoder
from lessons_lib.training.trainer import TrainResult

WORK = BUILD / "study"
PROFILE = "laptop"  # what the published studies run on
# what is the same for all arms, in a file of predictions
COMMON = ("labels.", "documents.", "groups.", "right.", "expected.", "quartet.")


def load_study_profile(lesson: str, **overrides: object) -> Profile:
    """The profile that a lesson's study runs on: PROFILE, or the one that STUDY_PROFILE names, so
    that tests can carry every arm out on tiny models. overrides: as in `load_profile`.
    """
    return load_profile(lesson, os.environ.get("STUDY_PROFILE") or PROFILE, **overrides)


@dataclass(frozen=True)
class ArmRun:
    """One arm, one seed: what it gave for every row, kept as `<name>.<arm>` (seeds, rows, …); what
    is the same for all arms, such as labels; and what the run cost (name → number)."""

    arrays: dict[str, np.ndarray]
    common: dict[str, np.ndarray] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)


def keep_probabilities(
    probabilities: np.ndarray,
    labels: np.ndarray,
    split: str = "test",
    cost: dict[str, float] | None = None,
) -> ArmRun:
    """A classifier's arm: probabilities (rows, classes) on the rows of `split`, and their
    labels.
    """
    common = {f"labels.{split}": np.asarray(labels, dtype=np.int8)}
    return ArmRun({split: probabilities.astype(np.float16)}, common, cost or {})


def fine_tune_facts(
    recipe: Recipe, name: str, conversations: list[Conversation], *, max_tokens: int, seed: int
) -> tuple[FineTuned, dict[str, float]]:
    """Fine-tunes the decoder `name` on conversations in a folder that is thrown away; the tuned
    model, and what that cost."""
    with tempfile.TemporaryDirectory() as folder:
        tuned = fine_tune_decoder(
            recipe,
            name,
            conversations,
            max_tokens=max_tokens,
            seed=seed,
            output_dir=folder,
            progress=False,
        )
    return tuned, describe_cost(tuned.result)


def describe_cost(result: TrainResult) -> dict[str, float]:
    """What a decoder's training cost, and the mean loss of its last steps."""
    return {
        "seconds": result.seconds,
        "rise_mb": result.rise_mb,
        "tokens_per_second": result.tokens_per_second,
        "tokens": result.tokens,
        "loss": float(result.history["loss"].dropna().iloc[-5:].mean()),
    }


def run_study(number: str) -> None:
    """Runs what is missing of a lesson's study, or of all that have one, and publishes their
    tables.
    """
    for lesson in list_lessons(number):
        try:
            study = importlib.import_module(f"lessons_lib.studies.study_{lesson.name[:2]}")
        except ModuleNotFoundError as error:
            if error.name != f"lessons_lib.studies.study_{lesson.name[:2]}":
                raise
            continue
        _run_arms(study)
        publish_study(study)


def list_seeds(study: ModuleType, arm: str) -> tuple[int, ...]:
    """The seeds of an arm: the study's, unless its `ARM_SEEDS` has others for it."""
    return getattr(study, "ARM_SEEDS", {}).get(arm, study.SEEDS)


def name_system(study: ModuleType, arm: str) -> tuple[str, str]:
    """The system and the subset that an arm's costs are filed under: what the study's `name_arm`
    says, else the arm's own name and all rows."""
    if hasattr(study, "name_arm"):
        return study.name_arm(arm)
    return arm, ""


def _run_arms(study: ModuleType) -> None:
    started = time.monotonic()
    published = _read_published(study)
    for position, arm in enumerate(study.ARMS, 1):
        seeds = [seed for seed in list_seeds(study, arm) if not is_done(study, arm, seed)]
        if seeds and not _is_published(study, arm, published):
            # a fresh process: its peak memory is the arm's
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                pool.submit(run_one_arm, study.__name__, arm, seeds).result()
        minutes = (time.monotonic() - started) / 60
        print(
            f"study {study.LESSON}: arm {position} of {len(study.ARMS)} ({arm}) "
            f"[{minutes:.1f} min]",
            flush=True,
        )


def run_one_arm(module: str, arm: str, seeds: list[int]) -> None:
    """Carries an arm out with each of `seeds`, and keeps what it gave in a file per seed."""
    quiet_libraries()
    study = importlib.import_module(module)
    commit = read_commit()
    for seed in seeds:
        free_memory()
        reset_peak_memory()  # or a seed's peak would be that of all before it
        run = study.run_arm(arm, seed)
        cost = {"peak_mb": peak_memory_mb(), **run.cost} if run.cost else {}
        path = _arm_path(study, arm, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(
            partial,
            **{f"array {name}": array for name, array in run.arrays.items()},
            **{f"common {name}": array for name, array in run.common.items()},
            cost=json.dumps(cost),
            description=str(study.ARMS[arm]),
            commit=commit,
            machine=json.dumps(describe_machine()),
        )
        partial.replace(path)


def _arm_path(study: ModuleType, arm: str, seed: int) -> Path:
    return WORK / study.LESSON / f"{arm}.{seed}.npz"


def is_done(study: ModuleType, arm: str, seed: int) -> bool:
    """Whether an arm's run with that seed has finished, under the arm's present description."""
    path = _arm_path(study, arm, seed)
    return path.is_file() and str(np.load(path)["description"]) == str(study.ARMS[arm])


# --- publishing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Finished:
    """All runs of one arm: the arrays that they gave (seeds first), and what is about them."""

    arrays: dict[str, np.ndarray]
    common: dict[str, np.ndarray]
    about: dict[str, object]


def publish_study(study: ModuleType) -> None:
    """Writes `data/results/study/<lesson>.json` and `.predictions.npz` from the finished arms.

    They are those run here and, where an arm has not been run here, its published runs, if its
    description has not changed. What is missing is named.
    """
    published = _read_published(study)
    finished = {}
    for arm in study.ARMS:
        if all(is_done(study, arm, seed) for seed in list_seeds(study, arm)):
            finished[arm] = _read_runs(study, arm)
        elif _is_published(study, arm, published):
            finished[arm] = _take_published(arm, published)
    missing = [arm for arm in study.ARMS if arm not in finished]
    if missing:
        print(f"study {study.LESSON}: not measured yet: {', '.join(missing)}")
    predictions = {}
    metrics = Metrics()
    for arm, runs in finished.items():
        predictions |= runs.common
        predictions |= {f"{name}.{arm}": array for name, array in runs.arrays.items()}
        system, subset = name_system(study, arm)
        costs = runs.about["costs"]
        for name in costs[0]:
            values = [cost[name] for cost in costs if name in cost]  # older runs kept less
            metrics.add(system, name, seed_range(values, len(values)), subset=subset)
    metrics |= study.recompute(predictions)
    abouts = {f"{ABOUT}{arm}": json.dumps(runs.about) for arm, runs in finished.items()}
    kept = locate_predictions(study.LESSON)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(kept, **predictions, **abouts)
    path = write_results(_describe_study(study, finished, metrics), PUBLISHED)
    print(f"{path}: {len(metrics)} metrics from {len(finished)} arms")


def _describe_study(study: ModuleType, finished: dict[str, _Finished], metrics: Metrics) -> Results:
    """The study's results: seconds are those of training alone, over all sessions; the machine is
    the one that most arms were run on."""
    abouts = [runs.about for runs in finished.values()]
    costs = [cost for about in abouts for cost in about["costs"]]
    machines = Counter(json.dumps(about["machine"], sort_keys=True) for about in abouts)
    profile = load_study_profile(study.LESSON)
    results = collect_results(
        study.LESSON,
        "study",
        seeds=list(study.SEEDS),
        models={field_name: getattr(profile, field_name) for field_name in study.MODELS},
        data=_list_data(profile, study.DATA),
        metrics=metrics,
        headline=study.HEADLINE,
    )
    return replace(
        results,
        seconds=round(sum(cost.get("seconds", 0) for cost in costs)),
        peak_mb=max(cost.get("peak_mb", 0) for cost in costs),
        machine=json.loads(machines.most_common(1)[0][0]),
        commits=sorted({commit for about in abouts for commit in about["commits"]}),
    )


def _read_runs(study: ModuleType, arm: str) -> _Finished:
    """An arm's runs as they were kept here."""
    runs = [np.load(_arm_path(study, arm, seed)) for seed in list_seeds(study, arm)]
    arrays = {}
    common = {}
    for key in runs[0]:
        kind, _, name = key.partition(" ")
        if kind == "array":
            arrays[name] = np.stack([run[key] for run in runs])
        elif kind == "common":
            common[name] = runs[0][key]
    about = {
        "description": str(study.ARMS[arm]),
        "seeds": list(list_seeds(study, arm)),
        "costs": [json.loads(str(run["cost"])) for run in runs],
        "commits": sorted({str(run["commit"]) for run in runs}),
        "machine": json.loads(str(runs[0]["machine"])),
    }
    return _Finished(arrays, common, about)


def _read_published(study: ModuleType) -> dict[str, np.ndarray]:
    """The published predictions with what is about them; nothing where there are none yet."""
    path = locate_predictions(study.LESSON)
    if not path.is_file():
        return {}
    with np.load(path) as kept:
        return dict(kept)


def _is_published(study: ModuleType, arm: str, published: dict[str, np.ndarray]) -> bool:
    """Whether the published runs of an arm are those that would be run now."""
    if f"{ABOUT}{arm}" not in published:
        return False
    about = json.loads(str(published[f"{ABOUT}{arm}"]))
    same_seeds = about["seeds"] == list(list_seeds(study, arm))
    return same_seeds and about["description"] == str(study.ARMS[arm])


def _take_published(arm: str, published: dict[str, np.ndarray]) -> _Finished:
    """An arm's published runs."""
    ending = f".{arm}"
    arrays = {}
    common = {}
    for name, array in published.items():
        if name.startswith(ABOUT):
            continue
        if name.endswith(ending):
            arrays[name.removesuffix(ending)] = array
        elif name.startswith(COMMON):
            common[name] = array
    return _Finished(arrays, common, json.loads(str(published[f"{ABOUT}{arm}"])))


def _list_data(profile: Profile, fields: tuple[str, ...]) -> list[str]:
    """The names of the data sets in those fields of the profile."""
    names = []
    for field_name in fields:
        value = getattr(profile, field_name)
        names += value if isinstance(value, list) else [value]
    return names


def recompute_metrics(
    predictions: dict[str, np.ndarray], comparisons: list[tuple[str, str]]
) -> Metrics:
    """Every accuracy, F1, precision, recall and difference of a study, from the kept predictions
    alone. A metric's subset is its split, or "" for the test rows.

    predictions: "labels.<split>" (rows), "<split>.<arm>" (seeds, rows, classes) and perhaps
    "documents.<split>" (rows). Intervals resample seeds and rows, or documents, together; pairs of
    `comparisons` are compared where both were tested on a split.
    """
    metrics = Metrics()
    correct: dict[str, dict[str, np.ndarray]] = {}
    for key in predictions:
        split, arm = key.split(".", 1)
        if split in ("labels", "documents"):
            continue
        subset = name_subset(split)
        labels = predictions[f"labels.{split}"]
        groups = predictions.get(f"documents.{split}")
        probabilities = predictions[key].astype(np.float64)
        right = probabilities.argmax(-1) == labels
        correct.setdefault(split, {})[arm] = right
        metrics.add(arm, "accuracy", bootstrap_interval(right, groups=groups), subset=subset)
        scores = [score_classifier(labels, p / p.sum(1, keepdims=True)) for p in probabilities]
        for name in ("precision", "recall", "f1"):
            values = [score[name] for score in scores]
            metrics.add(arm, name, seed_range(values, len(labels)), subset=subset)
    for split, by_arm in correct.items():
        groups = predictions.get(f"documents.{split}")
        for arm, rival in comparisons:
            if arm in by_arm and rival in by_arm:
                pair = compare_paired(by_arm[arm], by_arm[rival], groups)
                metrics.add(
                    arm, "accuracy", pair.difference, subset=name_subset(split), minus=rival
                )
    return metrics


def name_subset(split: str) -> str:
    """The subset that a metric on a split is about: the test rows need no name."""
    return "" if split == "test" else split

"""The long runs behind the claims: arms × seeds, resumable, each arm in a process of its own.

Contract: an arm that has finished with the same description is never run again; predictions of
every row are kept, and the published table is computed from them alone. A lesson's arms live in
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
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from lessons_lib.data.facts import Conversation
from lessons_lib.evaluation.intervals import bootstrap_interval, compare_paired, seed_range
from lessons_lib.evaluation.metrics import score_classifier
from lessons_lib.evaluation.records import Metrics
from lessons_lib.hardware import peak_memory_mb
from lessons_lib.lessons import list_lessons
from lessons_lib.models.load import quiet_libraries
from lessons_lib.paths import BUILD, PUBLISHED
from lessons_lib.profiles import Profile, load_profile
from lessons_lib.report.provenance import read_commit
from lessons_lib.report.results import collect_results, write_results
from lessons_lib.training.recipe import FineTuned, Recipe, fine_tune_decoder
from lessons_lib.training.trainer import TrainResult

WORK = BUILD / "study"
PROFILE = "laptop"  # what the published studies run on


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


def _run_arms(study: ModuleType) -> None:
    started = time.monotonic()
    for position, arm in enumerate(study.ARMS, 1):
        seeds = [seed for seed in study.SEEDS if not is_done(study, arm, seed)]
        if seeds:
            # a fresh process: its peak memory is the arm's
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                pool.submit(run_one_arm, study.__name__, arm, seeds).result()
        minutes = (time.monotonic() - started) / 60
        print(
            f"study {study.LESSON}: arm {position} of {len(study.ARMS)} ({arm}) [{minutes:.1f} "
            f"min]",
            flush=True,
        )


def run_one_arm(module: str, arm: str, seeds: list[int]) -> None:
    quiet_libraries()
    study = importlib.import_module(module)
    commit = read_commit()
    for seed in seeds:
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
        )
        partial.replace(path)


def _arm_path(study: ModuleType, arm: str, seed: int) -> Path:
    return WORK / study.LESSON / f"{arm}.{seed}.npz"


def is_done(study: ModuleType, arm: str, seed: int) -> bool:
    path = _arm_path(study, arm, seed)
    return path.is_file() and str(np.load(path)["description"]) == str(study.ARMS[arm])


def publish_study(study: ModuleType) -> None:
    """Writes `data/results/study/<lesson>.json` and `.predictions.npz` from the finished arms."""
    runs = {
        (arm, seed): np.load(_arm_path(study, arm, seed))
        for arm in study.ARMS
        for seed in study.SEEDS
    }
    kept = {}
    metrics = Metrics()
    for arm in study.ARMS:
        group = [runs[arm, seed] for seed in study.SEEDS]
        for kind, _, name in (key.partition(" ") for key in group[0]):
            if kind == "common":
                kept[name] = group[0][f"common {name}"]
            elif kind == "array":
                kept[f"{name}.{arm}"] = np.stack([run[f"array {name}"] for run in group])
        system, subset = study.name_arm(arm) if hasattr(study, "name_arm") else (arm, "")
        for name in json.loads(str(group[0]["cost"])):
            values = [json.loads(str(run["cost"]))[name] for run in group]
            metrics.add(system, name, seed_range(values, len(values)), subset=subset)
    folder = PUBLISHED / "study"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{study.LESSON}.predictions.npz", **kept)
    metrics |= study.recompute(kept)
    costs = [json.loads(str(run["cost"])) for run in runs.values()]
    profile = load_study_profile(study.LESSON)
    results = replace(
        collect_results(
            study.LESSON,
            "study",
            seeds=list(study.SEEDS),
            models={field: getattr(profile, field) for field in study.MODELS},
            data=_list_data(profile, study.DATA),
            metrics=metrics,
            headline=study.HEADLINE,
        ),
        # training alone, over all sessions
        seconds=round(sum(cost.get("seconds", 0) for cost in costs)),
        peak_mb=max(cost.get("peak_mb", 0) for cost in costs),
        commits=sorted({str(run["commit"]) for run in runs.values() if "commit" in run}),
    )
    path = write_results(results, PUBLISHED)
    print(f"{path}: {len(metrics)} metrics from {len(study.ARMS)} arms × {len(study.SEEDS)} seeds")


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

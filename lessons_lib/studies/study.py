"""The long runs behind the claims: arms × seeds, resumable, each arm in a process of its own.

Contract: an arm that has finished with the same description is never run again; predictions of
every row are kept, and the published table is computed from them alone. A lesson's arms live in
`study_NN.py`, as `LESSON`, `SEEDS`, `HEADLINE`, `ARMS` (name → a description that can be printed),
`recompute(predictions)` (the metrics) and `run_arm(name, seed) -> ArmRun`.
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
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from lessons_lib.data.facts import Dialog
from lessons_lib.evaluation.intervals import Metric, bootstrap_interval, compare_paired
from lessons_lib.evaluation.metrics import score_classifier
from lessons_lib.hardware import peak_memory_mb
from lessons_lib.lessons import list_lessons
from lessons_lib.models.load import quiet_libraries
from lessons_lib.paths import BUILD, PUBLISHED
from lessons_lib.profiles import Profile, load_profile
from lessons_lib.report.provenance import read_commit
from lessons_lib.report.results import collect_results, write_results
from lessons_lib.training.conversations import encode_dialogs
from lessons_lib.training.trainer import TrainSettings, train

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


def teach(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    dialogs: list[Dialog],
    settings: dict,
    *,
    max_tokens: int,
) -> dict[str, float]:
    """Trains a decoder's adapter in place, and says what it cost. settings: those of
    `TrainSettings`.
    """
    rows = encode_dialogs(dialogs, tokenizer, max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            model, rows, None, TrainSettings(**settings), output_dir=folder, progress=False
        )
    speed = {"seconds": result.seconds, "tokens_per_second": result.tokens_per_second}
    loss = float(result.history["loss"].dropna().iloc[-5:].mean())
    return {**speed, "tokens": result.tokens, "loss": loss}


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
        seeds = [seed for seed in study.SEEDS if not _is_done(study, arm, seed)]
        if seeds:
            # a fresh process: its peak memory is the arm's
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                pool.submit(_run_one_arm, study.__name__, arm, seeds).result()
        minutes = (time.monotonic() - started) / 60
        print(
            f"study {study.LESSON}: arm {position} of {len(study.ARMS)} ({arm}) [{minutes:.1f} "
            f"min]",
            flush=True,
        )


def _run_one_arm(module: str, arm: str, seeds: list[int]) -> None:
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


def _is_done(study: ModuleType, arm: str, seed: int) -> bool:
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
    metrics = {}
    for arm in study.ARMS:
        group = [runs[arm, seed] for seed in study.SEEDS]
        for kind, _, name in (key.partition(" ") for key in group[0]):
            if kind == "common":
                kept[name] = group[0][f"common {name}"]
            elif kind == "array":
                kept[f"{name}.{arm}"] = np.stack([run[f"array {name}"] for run in group])
        for name in json.loads(str(group[0]["cost"])):
            values = [json.loads(str(run["cost"]))[name] for run in group]
            metrics[f"{arm}.{name}"] = spread_seeds(values, len(values))
    folder = PUBLISHED / "study"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{study.LESSON}.predictions.npz", **kept)
    metrics |= study.recompute(kept)
    costs = [json.loads(str(run["cost"])) for run in runs.values()]
    results = replace(
        collect_results(study.LESSON, "study", list(study.SEEDS), metrics, study.HEADLINE),
        # training, over all sittings
        seconds=round(sum(cost.get("seconds", 0) for cost in costs)),
        peak_rss_mb=max(cost.get("peak_mb", 0) for cost in costs),
        commits=sorted({str(run["commit"]) for run in runs.values() if "commit" in run}),
    )
    path = write_results(results, PUBLISHED)
    print(f"{path}: {len(metrics)} metrics from {len(study.ARMS)} arms × {len(study.SEEDS)} seeds")


def spread_seeds(values: list[float], n: int) -> Metric:
    """Mean and range over seeds; the mean is kept within the range, which rounding may leave."""
    return Metric(
        float(np.clip(np.mean(values), min(values), max(values))), min(values), max(values), n
    )


def recompute_metrics(
    predictions: dict[str, np.ndarray], comparisons: list[tuple[str, str]]
) -> dict[str, Metric]:
    """Every accuracy, F1, precision, recall and difference of a study, from the kept predictions
    alone.

    predictions: "labels.<split>" (rows), "<split>.<arm>" (seeds, rows, classes) and perhaps
    "documents.<split>" (rows). Intervals resample seeds and rows, or documents, together; a
    difference is named `<a>_minus_<b>.accuracy`.
    """
    metrics = {}
    correct = {}
    for key in predictions:
        split, arm = key.split(".", 1)
        if split in ("labels", "documents"):
            continue
        labels = predictions[f"labels.{split}"]
        groups = predictions.get(f"documents.{split}")
        probabilities = predictions[key].astype(np.float64)
        correct[arm] = probabilities.argmax(-1) == labels
        metrics[f"{arm}.accuracy"] = bootstrap_interval(correct[arm], groups=groups)
        scores = [score_classifier(labels, p / p.sum(1, keepdims=True)) for p in probabilities]
        for name in ("precision", "recall", "f1"):
            values = [score[name] for score in scores]
            metrics[f"{arm}.{name}"] = spread_seeds(values, len(labels))
    for a, b in comparisons:
        metrics[f"{a}_minus_{b}.accuracy"] = compare_paired(
            correct[a], correct[b], groups
        ).difference
    return metrics

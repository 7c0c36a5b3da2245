"""The study behind lesson 04: recipes and baselines on 2,000 and on all reviews, and three sweeps.

Rates and what `CHANGES` lists were swept on validation alone; `LONGER` was set beforehand on
training rows. The other arms meet the test rows and decide nothing. The recipes are the lesson's
own: a test holds them equal to the notebook's cells.
"""

import functools
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from lessons_lib import models
from lessons_lib.data import load_reviews, take_rows
from lessons_lib.evaluation.inference import classify_texts, embed, predict
from lessons_lib.models.classifier import load_classifier
from lessons_lib.models.load import load_tokenizer
from lessons_lib.studies.long_reviews import average_parts, cut_reviews, make_long_reviews
from lessons_lib.studies.study import (
    ArmRun,
    keep_probabilities,
    load_study_profile,
    recompute_metrics,
)
from lessons_lib.training.batches import tokenize_reviews
from lessons_lib.training.recipe import ATTENTION, FEED_FORWARD, Recipe, fine_tune_classifier

LESSON = "04_distilbert_lora_imdb"
SEEDS = (0, 1, 2)
HEADLINE = (("classic_2000", "accuracy"), ("lora_2000", "accuracy"))
MODELS = ("encoder",)
DATA = ("dataset",)
SMALL = 2000
CLASSIC = Recipe(
    learning_rate=5e-5,
    rank=8,
    alpha=32,
    targets=("q_lin", "v_lin"),
    lora_dropout=0.1,
    dropout=None,
    batch_size=8,
    precision="float32",
)
TUNED = Recipe(
    learning_rate=2e-3,
    rank=8,
    alpha=16,
    targets=ATTENTION + FEED_FORWARD,
    pooling="mean",
    batch_size=32,
    warmup=0.06,
    ema_decay=0.98,
)
FULL = replace(TUNED, rank=0, learning_rate=5e-5)
# four times the steps: a gentler rate, a longer average
LONGER = {"learning_rate": 1e-3, "ema_decay": 0.99}
FITS = {"majority": models.fit_majority, "tfidf": models.fit_tfidf, "nbsvm": models.fit_nbsvm}
CHANGES = {  # the tuned recipe with one thing changed
    "head reads the first token": {"pooling": "cls"},
    "no weight averaging": {"ema_decay": 0.0},
    "dropout 0.1 as published": {"dropout": None, "lora_dropout": 0.1},
    "q and v only": {"targets": ("q_lin", "v_lin")},
    "rank 1": {"rank": 1, "alpha": 2},
}


@dataclass(frozen=True)
class LongArm:
    """How long reviews are read. method: a recipe, or a word count. max_tokens: of a text, or of
    each of its parts if `in_parts`."""

    method: str | Recipe
    max_tokens: int = 0
    in_parts: bool = False


# name → (kind or recipe, training rows; 0 for all)
ARMS: dict[str, tuple[str | Recipe, int] | LongArm] = {
    "lora_2000": (TUNED, SMALL),
    "classic_2000": (CLASSIC, SMALL),
    "full_2000": (FULL, SMALL),
    "classic_fast_2000": (replace(CLASSIC, learning_rate=1e-3), SMALL),  # the rate alone changed
    "lora_all": (replace(TUNED, **LONGER), 0),
    "full_all": (replace(FULL, learning_rate=1e-4, ema_decay=0.99), 0),
    "untrained": ("untrained", SMALL),
    "majority": ("majority", SMALL),
}
ARMS |= {f"{kind}_2000": (kind, SMALL) for kind in ("tfidf", "nbsvm", "probe")}
ARMS |= {f"{kind}_all": (kind, 0) for kind in ("tfidf", "nbsvm", "probe")}
ARMS |= {
    f"sweep_lr_lora={rate:g}": (replace(TUNED, learning_rate=rate), SMALL)
    for rate in (5e-5, 3e-4, 1e-3, 2e-3, 8e-3)
}
ARMS |= {
    f"sweep_lr_full={rate:g}": (replace(FULL, learning_rate=rate), SMALL)
    for rate in (1e-5, 2e-5, 5e-5, 2e-4, 1e-3)
}
ARMS |= {
    f"sweep_change={name}": (replace(TUNED, **change), SMALL) for name, change in CHANGES.items()
}
# Relatives of LoRA: each with the tuned recipe, at the best of its own rates on validation rows of
# one seed, then five seeds on test rows.
METHOD_RATES = {
    "lora": (1e-3, 2e-3, 4e-3),
    "lorafa": (1e-3, 2e-3, 4e-3, 8e-3),
    "rslora": (3e-4, 7e-4, 1.5e-3),
    "dora": (5e-4, 1e-3, 2e-3, 4e-3),
    "pissa": (3e-4, 7e-4, 1.5e-3),
    "loraplus": (1e-4, 3e-4, 7e-4),
    "ia3": (3e-3, 1e-2, 3e-2, 1e-1),
    "bitfit": (3e-4, 1e-3, 3e-3, 1e-2),
    "upper_half": (1e-3, 2e-3, 4e-3),
}
CHOSEN_RATES = {
    "lora": 2e-3,
    "lorafa": 2e-3,
    "rslora": 7e-4,
    "dora": 1e-3,
    "pissa": 7e-4,
    "loraplus": 3e-4,
    "ia3": 3e-2,
    "bitfit": 1e-3,
    "upper_half": 2e-3,
}
METHOD_SEEDS = (0, 1, 2, 3, 4)
ARM_SEEDS: dict[str, tuple[int, ...]] = {}
for _method, _rates in METHOD_RATES.items():
    for _rate in _rates:
        _arm = f"sweep_{_method}={_rate:g}"
        ARMS[_arm] = (replace(TUNED, method=_method, learning_rate=_rate), SMALL)
        ARM_SEEDS[_arm] = (0,)
for _method, _rate in CHOSEN_RATES.items():
    _arm = f"method_{_method}"
    ARMS[_arm] = (replace(TUNED, method=_method, learning_rate=_rate), SMALL)
    ARM_SEEDS[_arm] = METHOD_SEEDS
# Long reviews (see `make_long_reviews`): the tuned recipe reads the first tokens, as many as the
# lesson would choose, or parts whose answers are averaged; word counts read all.
ARMS |= {
    "long_tfidf": LongArm("tfidf"),
    "long_nbsvm": LongArm("nbsvm"),
    "long_first": LongArm(TUNED, 128),
    # three times the steps: at TUNED's own rate this run collapsed to one answer for all
    "long_parts": LongArm(replace(TUNED, **LONGER), 128, in_parts=True),
    "long_whole": LongArm(TUNED, 384),
}
ARM_SEEDS |= {arm: (0,) for arm in ARMS if arm.startswith("long_")}  # 5 minutes a run
AS_TUNED = "sweep_lr_lora=0.002"
COMPARISONS = [(f"sweep_change={name}", AS_TUNED) for name in CHANGES]
COMPARISONS += [
    ("classic_fast_2000", "classic_2000"),
    ("classic_fast_2000", "full_2000"),
    ("classic_2000", "nbsvm_2000"),
    ("classic_2000", "probe_2000"),
    ("sweep_lr_lora=5e-05", AS_TUNED),
    ("sweep_lr_full=5e-05", "sweep_lr_lora=5e-05"),
]
COMPARISONS += [
    ("lora_2000", rival)
    for rival in (
        "classic_2000",
        "classic_fast_2000",
        "tfidf_2000",
        "nbsvm_2000",
        "probe_2000",
        "full_2000",
    )
] + [("lora_all", rival) for rival in ("tfidf_all", "nbsvm_all", "probe_all", "full_all")]

COMPARISONS += [
    (arm, rival)
    for arm in ("long_whole", "long_parts", "long_first")
    for rival in ("long_tfidf", "long_nbsvm")
]
COMPARISONS += [("long_whole", "long_first"), ("long_parts", "long_whole")]
COMPARISONS += [(f"method_{method}", "method_lora") for method in CHOSEN_RATES if method != "lora"]
recompute = functools.partial(recompute_metrics, comparisons=COMPARISONS)


def run_arm(name: str, seed: int) -> ArmRun:
    """Carries one arm out with one seed, which decides training rows, head, adapter and order."""
    if isinstance(ARMS[name], LongArm):
        return _run_long(ARMS[name], seed)
    method, rows = ARMS[name]
    split = "validation" if name.startswith("sweep_") else "test"
    splits = load_splits()
    splits = DatasetDict({**splits, "train": take_rows(splits["train"], rows, seed)})
    labels = np.array(splits[split]["label"])
    if isinstance(method, Recipe):
        return run_recipe(method, _profile().encoder, splits, seed, split)
    if method in FITS:
        return keep_probabilities(FITS[method](splits).predict_proba(splits[split]["text"]), labels)
    model, tokenizer = load_classifier(_profile().encoder, seed=seed, dropout=0.0)
    tokens = tokenize_reviews(splits, tokenizer, _profile().max_tokens)
    if method == "untrained":
        return keep_probabilities(predict(model, tokens["test"]), labels)
    features = {part: embed(model.base_model, tokens[part]) for part in tokens}
    probe = models.fit_linear_probe(features, {part: tokens[part]["labels"] for part in tokens})
    return keep_probabilities(probe.predict_proba(features["test"]), labels)


def _run_long(arm: LongArm, seed: int) -> ArmRun:
    splits = make_long_reviews(load_splits(), seed)
    labels = np.array(splits["test"]["label"])
    if isinstance(arm.method, str):
        probabilities = FITS[arm.method](splits).predict_proba(splits["test"]["text"])
        return keep_probabilities(probabilities, labels, "long")
    encoder = _profile().encoder
    owners = np.arange(len(labels))
    if arm.in_parts:
        splits, owners = cut_reviews(splits, load_tokenizer(encoder), arm.max_tokens)
    run = run_recipe(arm.method, encoder, splits, seed, max_tokens=arm.max_tokens)
    probabilities = average_parts(run.arrays["test"].astype(float), owners)
    return keep_probabilities(probabilities, labels, "long", run.cost)


@functools.cache
def _profile():
    return load_study_profile(LESSON, dataset="snippets:movie", train_rows=0)


@functools.cache
def load_splits() -> DatasetDict:
    """The movie snippets with all rows that are left for training; lesson 01's study tests on them
    too.
    """
    profile = _profile()
    return load_reviews(
        profile.dataset, validation_rows=profile.validation_rows, test_rows=profile.test_rows
    )


def run_recipe(
    recipe: Recipe,
    model: str,
    splits: DatasetDict,
    seed: int,
    split: str = "test",
    max_tokens: int = 0,
) -> ArmRun:
    """Fine-tunes `model` by `recipe` with one seed and predicts the rows of `split`. max_tokens: 0
    is the profile's."""
    max_tokens = max_tokens or _profile().max_tokens
    with tempfile.TemporaryDirectory() as folder:
        tuned = fine_tune_classifier(
            recipe,
            model,
            splits,
            max_tokens=max_tokens,
            seed=seed,
            output_dir=folder,
            evaluations=0,
            progress=False,
        )
        tuned.model.save_pretrained(f"{folder}/saved")
        size = sum(path.stat().st_size for path in Path(folder, "saved").iterdir()) / 1e6
    cost = {
        "seconds": tuned.result.seconds,
        "rise_mb": tuned.result.rise_mb,
        "tokens_per_second": tuned.result.tokens_per_second,
        "trainable": tuned.count.trainable,
        "checkpoint_mb": size,
    }
    probabilities = classify_texts(tuned.model, tuned.tokenizer, splits[split]["text"], max_tokens)
    return keep_probabilities(probabilities, np.array(splits[split]["label"]), split, cost)

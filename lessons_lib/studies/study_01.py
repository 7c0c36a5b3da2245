"""The study behind lesson 01: the fine-tuned encoder, the classical baselines, the lexicon and the
decoder's answers, on the same test rows.

What lesson 04's study has trained already (the same encoder, recipe and rows) is read from its
published predictions instead of being trained again. The decoder's question and the number of
examples were chosen on validation rows; its examples come from the training rows and change with
the seed.
"""

import functools
import hashlib
import time

import numpy as np
from datasets import DatasetDict
from scipy.special import softmax

from lessons_lib import models
from lessons_lib.data import CLASS_NAMES, take_rows
from lessons_lib.errors import DataError
from lessons_lib.evaluation.likelihood import score_choices
from lessons_lib.evaluation.records import MetricName
from lessons_lib.models.decoder import load_decoder, render_chat
from lessons_lib.report.results import locate_predictions, read_predictions, read_results
from lessons_lib.studies.study import (
    ArmRun,
    keep_probabilities,
    load_study_profile,
    recompute_metrics,
)
from lessons_lib.studies.study_04 import load_splits, run_recipe
from lessons_lib.training.recipe import Recipe

LESSON = "01_gpt_vs_bert"
OTHER = "04_distilbert_lora_imdb"
SEEDS = (0, 1, 2)
HEADLINE = (("zero_shot", "accuracy"), ("bert_lora_all", "accuracy"))
MODELS = ("encoder", "decoder")
DATA = ("dataset",)
QUESTION = "Is this movie review positive or negative? Answer with one word.\n\n{}"
SHOTS = 8
GPT_LORA = Recipe(  # set beforehand, not swept: lesson 03 does that
    learning_rate=5e-4,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    epochs=1,
    warmup=0.06,
)
KEPT = locate_predictions(OTHER)
SAME = {  # arm → lesson 04's arm
    "bert_full_all": "full_all",
    "bert_lora_all": "lora_all",
    "bert_lora_2000": "lora_2000",
    "tfidf_all": "tfidf_all",
    "nbsvm_all": "nbsvm_all",
    "probe_all": "probe_all",
    "majority": "majority",
}


def _digest_predictions() -> dict[str, str]:
    """A digest of lesson 04's published predictions, by arm: other ones make other runs here."""
    if not KEPT.is_file():
        return {}
    published = read_predictions(OTHER)
    digests = {}
    for other in SAME.values():
        array = published.get(f"test.{other}")
        if array is not None:
            digests[other] = hashlib.sha256(array.tobytes()).hexdigest()[:12]
    return digests


_DIGESTS = _digest_predictions()
# name → lesson 04's arm and the digest of its predictions; or a kind of its own
ARMS: dict[str, tuple[str, ...]] = {
    **{name: (other, OTHER, _DIGESTS.get(other, "missing")) for name, other in SAME.items()},
    "vader": ("vader",),
    "zero_shot": (QUESTION,),
    "few_shot": (QUESTION, str(SHOTS)),
    "gpt_lora_2000": (str(GPT_LORA),),
}
RIVALS = ("tfidf_all", "nbsvm_all", "vader", "zero_shot", "few_shot")
COMPARISONS = [
    *[("bert_full_all", rival) for rival in RIVALS],
    *[("bert_lora_all", rival) for rival in RIVALS],
    ("bert_full_all", "bert_lora_all"),
    ("few_shot", "zero_shot"),
    ("zero_shot", "vader"),
    ("bert_lora_2000", "gpt_lora_2000"),
    ("gpt_lora_2000", "zero_shot"),
]


recompute = functools.partial(recompute_metrics, comparisons=COMPARISONS)


def run_arm(name: str, seed: int) -> ArmRun:
    """Carries one arm out; the seed chooses the examples of `few_shot`."""
    splits = load_splits()
    labels = np.array(splits["test"]["label"])
    if name in SAME:
        return _read_arm(SAME[name], seed, labels)
    if name == "vader":
        return keep_probabilities(
            models.fit_vader(splits).predict_proba(splits["test"]["text"]), labels
        )
    if name == "gpt_lora_2000":
        small = DatasetDict({**splits, "train": take_rows(splits["train"], 2000, seed)})
        return run_recipe(GPT_LORA, load_study_profile(LESSON).decoder, small, seed)
    examples = choose_examples(splits["train"], SHOTS, seed) if name == "few_shot" else []
    probabilities, seconds = ask_decoder(tuple(examples))
    return keep_probabilities(probabilities, labels, cost={"seconds": seconds})


def choose_examples(rows, count: int, seed: int) -> list[tuple[str, str]]:  # noqa: ANN001
    """`count` training rows as (question, answer), half of each class, in an order drawn by
    `seed`.
    """
    chosen = take_rows(rows, count, seed)
    return [(QUESTION.format(row["text"]), CLASS_NAMES[row["label"]]) for row in chosen]


@functools.cache  # without examples every seed asks the same
def ask_decoder(examples: tuple[tuple[str, str], ...]) -> tuple[np.ndarray, float]:
    """Probabilities (rows, classes) of the two answers on the test rows, and the seconds they
    took.
    """
    model, tokenizer = load_decoder(load_study_profile(LESSON).decoder)
    texts = load_splits()["test"]["text"]
    prompts = [render_chat(tokenizer, QUESTION.format(text), list(examples)) for text in texts]
    started = time.monotonic()
    scores = score_choices(model, tokenizer, prompts, [CLASS_NAMES] * len(prompts), progress=False)
    return softmax(scores, axis=1), time.monotonic() - started


def _read_arm(name: str, seed: int, labels: np.ndarray) -> ArmRun:
    """One arm of lesson 04's published study. DataError if it was tested on other rows."""
    study = read_results(OTHER, "study")
    kept = read_predictions(OTHER)
    if not np.array_equal(kept["labels.test"], labels):
        raise DataError(
            "it holds other test rows.",
            where=str(KEPT),
            remedy="make study LESSON=04, then this one again.",
        )
    probabilities = kept[f"test.{name}"][study.seeds.index(seed)].astype(np.float32)
    cost = {}
    for metric in ("seconds", "tokens_per_second", "trainable", "peak_mb", "checkpoint_mb"):
        measured = study.metrics.get(MetricName(name, metric))
        if measured:
            cost[metric] = measured.value
    return keep_probabilities(
        probabilities / probabilities.sum(1, keepdims=True), labels, cost=cost
    )

"""The study behind lesson 03: three ways to make a decoder classify news sentences into three
classes, beside the classical baselines, the encoder and the raters themselves; then the same models
on two other domains.

All systems learn from the same rows of a seed, cut by article. Learning rates were compared on
validation rows, with one seed; the test rows decide nothing.
"""

import functools
import tempfile
from dataclasses import replace

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets
from scipy.special import softmax
from sklearn.utils.class_weight import compute_class_weight
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib import data, models
from lessons_lib.data.facts import make_example
from lessons_lib.evaluation.inference import classify_texts
from lessons_lib.evaluation.intervals import bootstrap_interval, bootstrap_macro_f1, seed_range
from lessons_lib.evaluation.likelihood import score_choices
from lessons_lib.evaluation.records import Metric, Metrics
from lessons_lib.hardware import choose_precision
from lessons_lib.models.decoder import load_decoder, render_chat
from lessons_lib.studies.study import (
    ArmRun,
    fine_tune_facts,
    keep_probabilities,
    load_study_profile,
    name_subset,
    recompute_metrics,
)
from lessons_lib.studies.study_04 import TUNED
from lessons_lib.training.precision import mixed_precision_lora
from lessons_lib.training.recipe import Recipe, fine_tune_classifier

LESSON = "03_llama2_sentiment"
SEEDS = (0, 1, 2)
HEADLINE = (("zero_shot", "accuracy"), ("lora_label", "accuracy"))
MODELS = ("encoder", "decoder")
DATA = ("dataset", "out_of_domain")
ELSEWHERE = 500
SHOTS = 6
UNLABELLED = 100
QUESTION = "Is the sentiment of this sentence {}? Answer with one word.\n\n{}"
CONTENT_FREE = ("N/A", "...", "Sentence")
LABEL = Recipe(
    learning_rate=1e-3,
    rank=16,
    alpha=32,
    targets="all-linear",
    epochs=1,
    warmup=0.06,
    ema_decay=0.98,
)
HEAD = Recipe(
    learning_rate=1e-3,
    rank=16,
    alpha=32,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    epochs=1,
    warmup=0.06,
    ema_decay=0.98,
)
FITS = {
    "majority": models.fit_majority,
    "vader": models.fit_vader,
    "tfidf": models.fit_tfidf,
    "nbsvm": models.fit_nbsvm,
}
DOMAINS = {"test": "snippets:news", "movie": "snippets:movie", "product": "snippets:product"}

# name → what it is; all learn from all training rows, "mixed" from as many of all three domains
ARMS: dict[str, object] = {
    "majority": "majority",
    "vader": "vader",
    "tfidf": "tfidf",
    "nbsvm": "nbsvm",
    "tfidf_mixed": "tfidf",
    "nbsvm_mixed": "nbsvm",
    "raters": "raters",
    "zero_shot": (QUESTION, 0),
    "few_shot": (QUESTION, SHOTS),
    "lora_label": LABEL,
    "lora_head": HEAD,
    "bert_lora": TUNED,
    "bert_lora_mixed": TUNED,
    "bert_lora_weighted": TUNED,
}
RIVALS = ("tfidf", "nbsvm", "vader", "zero_shot", "few_shot", "bert_lora")
COMPARISONS = [
    *[("lora_label", rival) for rival in RIVALS],
    *[("lora_head", rival) for rival in RIVALS],
    ("lora_label", "lora_head"),
    ("bert_lora_weighted", "bert_lora"),
    ("tfidf_mixed", "tfidf"),
    ("nbsvm_mixed", "nbsvm"),
    ("bert_lora_mixed", "bert_lora"),
    ("zero_shot_free", "zero_shot"),
    ("zero_shot_unlabelled", "zero_shot"),
    ("few_shot_free", "few_shot"),
    ("few_shot_unlabelled", "few_shot"),
]


def run_arm(name: str, seed: int) -> ArmRun:
    """Carries one arm out; the seed decides examples, adapter, order, mixture and halves of
    raters.
    """
    method = ARMS[name]
    if name == "raters":
        return halve_raters(seed)
    if name.endswith("_shot"):
        return ask_decoder(method[1], seed)
    splits = load_splits("test")
    train_rows = mix_domains(seed) if name.endswith("mixed") else splits["train"].shuffle(seed=seed)
    splits = DatasetDict({**splits, "train": train_rows})
    if name == "lora_label":
        return train_label(splits, seed)
    if isinstance(method, Recipe):
        weights = None
        if name.endswith("weighted"):
            labels = splits["train"]["label"]
            weights = compute_class_weight("balanced", classes=np.arange(3), y=labels).tolist()
        return train_head(method, splits, seed, weights)
    model = FITS[method](splits)
    return keep_domains(lambda rows: model.predict_proba(rows["text"]))


@functools.cache
def load_splits(domain: str) -> DatasetDict:
    """The rows of one domain; about 1,000 test rows of news, fewer of the others."""
    rows = 1000 if domain == "test" else ELSEWHERE
    return data.load_reviews(DOMAINS[domain], validation_rows=600, test_rows=rows, neutral=True)


def mix_domains(seed: int) -> Dataset:
    """As many training rows as news has, a third from each domain."""
    third = len(load_splits("test")["train"]) // 3
    thirds = [data.take_rows(load_splits(domain)["train"], third, seed) for domain in DOMAINS]
    return concatenate_datasets(thirds).shuffle(seed=seed)


def keep_domains(classify, cost: dict[str, float] | None = None) -> ArmRun:  # noqa: ANN001
    """What `classify(rows)` gives (rows, classes) for the test rows of every domain, and their
    labels.
    """
    arrays = {}
    labels = {}
    for domain in DOMAINS:
        rows = load_splits(domain)["test"]
        run = keep_probabilities(classify(rows), np.array(rows["label"]), domain)
        arrays |= run.arrays
        labels |= run.common
    return ArmRun(arrays, labels, cost or {})


def put_question(text: str) -> str:
    """The question about one sentence."""
    return QUESTION.format("negative, neutral or positive", text)


def score_labels(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    examples: list[tuple[str, str]] | None = None,
) -> np.ndarray:
    """Probabilities (texts, classes) of the classes' names as the answer."""
    prompts = [render_chat(tokenizer, put_question(text), examples) for text in texts]
    return softmax(
        score_choices(model, tokenizer, prompts, [data.THREE_CLASSES] * len(texts), progress=False),
        1,
    )


def ask_decoder(shots: int, seed: int) -> ArmRun:
    """The decoder, asked after `shots` examples; and what it answers on average to no content, and
    to rows of which only the text is used."""
    train_rows = load_splits("test")["train"]
    tests = load_splits("test")["test"]
    shown = data.take_rows(train_rows, shots, seed) if shots else []
    examples = tuple((put_question(row["text"]), data.THREE_CLASSES[row["label"]]) for row in shown)
    unlabelled = train_rows.shuffle(seed=seed + 100)["text"][:UNLABELLED]
    run = keep_probabilities(_ask_once(tuple(tests["text"]), examples), np.array(tests["label"]))
    priors = {
        "prior_free": _ask_once(CONTENT_FREE, examples).mean(0),
        "prior_unlabelled": _ask_once(tuple(unlabelled), examples).mean(0),
    }
    return replace(run, arrays=run.arrays | priors)


@functools.cache  # without examples every seed asks the same of the test rows
def _ask_once(texts: tuple[str, ...], examples: tuple[tuple[str, str], ...]) -> np.ndarray:
    return score_labels(*_load_once(), list(texts), list(examples))


@functools.cache
def _load_once() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_decoder(load_study_profile(LESSON).decoder)


def train_label(splits: DatasetDict, seed: int) -> ArmRun:
    """LoRA with the label as completion."""
    conversations = [
        make_example(put_question(row["text"]), data.THREE_CLASSES[row["label"]])
        for row in splits["train"]
    ]
    decoder = load_study_profile(LESSON).decoder
    tuned, cost = fine_tune_facts(LABEL, decoder, conversations, max_tokens=256, seed=seed)

    def classify(rows: Dataset) -> np.ndarray:
        """Probabilities (rows, classes)."""
        return score_labels(tuned.model, tuned.tokenizer, rows["text"])

    with mixed_precision_lora(tuned.model, choose_precision()):
        return keep_domains(classify, cost)


def train_head(
    recipe: Recipe, splits: DatasetDict, seed: int, weights: list[float] | None
) -> ArmRun:
    """LoRA with a classification head, on the decoder or, by its own recipe, on the encoder."""
    profile = load_study_profile(LESSON)
    with tempfile.TemporaryDirectory() as folder:
        tuned = fine_tune_classifier(
            recipe,
            profile.encoder if recipe == TUNED else profile.decoder,
            splits,
            max_tokens=profile.max_tokens,
            seed=seed,
            output_dir=folder,
            evaluations=0,
            progress=False,
            class_weights=weights,
        )
    cost = {"seconds": tuned.result.seconds, "tokens_per_second": tuned.result.tokens_per_second}
    return keep_domains(
        lambda rows: classify_texts(tuned.model, tuned.tokenizer, rows["text"], profile.max_tokens),
        cost,
    )


# --- the raters -----------------------------------------------------------------------------------


def halve_raters(seed: int) -> ArmRun:
    """The labels that two random halves of the raters give the test rows, and those of a panel of
    20 drawn from the raters with replacement: it differs from the real panel about as much as that
    does from everybody, so its agreement with the label is what knowing everybody's mean opinion
    would score. Keeps the rows' documents as well."""
    documents = {}
    for domain in DOMAINS:
        names = load_splits(domain)["test"]["document"]
        documents[f"documents.{domain}"] = np.unique(names, return_inverse=True)[1].astype(np.int16)
    ratings = data.read_ratings("news")[load_splits("test")["test"]["row"]]
    random = np.random.default_rng(seed)
    shuffled = random.permuted(ratings, axis=1)
    panel = np.take_along_axis(ratings, random.integers(20, size=ratings.shape), 1)
    arrays = {"half_a": shuffled[:, :10], "half_b": shuffled[:, 10:], "panel": panel}
    arrays = {
        name: data.label_ratings(part.mean(1)).astype(np.int8) for name, part in arrays.items()
    }
    labels = np.array(load_splits("test")["test"]["label"], dtype=np.int8)
    return ArmRun(arrays, {"labels.test": labels, **documents})


# --- the table ------------------------------------------------------------------------------------


def recompute(kept: dict[str, np.ndarray]) -> Metrics:
    """Every metric of the study from what was kept of every row. Those on the other two domains
    have the domain as their subset."""
    kept = dict(kept)
    halves_agree = kept.pop("half_a.raters") == kept.pop("half_b.raters")
    panel_right = kept.pop("panel.raters") == kept["labels.test"]
    documents = kept["documents.test"]
    for key in [key for key in kept if key.startswith("prior_")]:
        kind, arm = key.removeprefix("prior_").split(".")
        kept[f"test.{arm}_{kind}"] = divide_prior(kept[f"test.{arm}"], kept.pop(key)[:, None])
    metrics = recompute_metrics(kept, COMPARISONS)
    metrics.add("raters", "agreement", bootstrap_interval(halves_agree, groups=documents))
    metrics.add("raters", "accuracy", bootstrap_interval(panel_right, groups=documents))
    for key, probabilities in kept.items():
        domain, arm = key.split(".", 1)
        if domain in ("labels", "documents"):
            continue
        labels = kept[f"labels.{domain}"]
        predicted = probabilities.argmax(-1)
        macro_f1 = bootstrap_macro_f1(labels, predicted, groups=kept[f"documents.{domain}"])
        subset = name_subset(domain)
        metrics.add(arm, "macro_f1", macro_f1, subset=subset)
        for name, metric in judge_classes(labels, predicted).items():
            metrics.add(arm, name, metric, subset=subset)
    return metrics


def divide_prior(probabilities: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities (…, classes) divided by what the model answers anyway, and made to sum to 1
    again.
    """
    divided = probabilities.astype(float) / prior
    return divided / divided.sum(-1, keepdims=True)


def judge_classes(labels: np.ndarray, predicted: np.ndarray) -> dict[str, Metric]:
    """Precision and recall of each class, from labels (rows) and predicted classes (seeds, rows),
    with the range over seeds."""
    metrics = {}
    for number, name in enumerate(data.THREE_CLASSES):
        hits = ((predicted == number) & (labels == number)).sum(1)
        precisions = hits / np.maximum(1, (predicted == number).sum(1))
        recalls = hits / np.maximum(1, (labels == number).sum())
        metrics[f"precision_{name}"] = seed_range(precisions.tolist(), len(labels))
        metrics[f"recall_{name}"] = seed_range(recalls.tolist(), len(labels))
    return metrics

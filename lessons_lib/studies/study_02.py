"""The study behind lesson 02: 300 medical terms, each met three times: in one phrasing, or in three
drawn from ten, with equal training tokens but for the phrasings' own.

The learning rate, the batch size and the way choices are scored were settled on other terms of the
ontology, which are neither trained nor asked here. Every arm answers the lesson's own evaluation
set; wrong choices come from balanced groups of four terms, which are resampled together.

Beside it, what formats of weights cost: the decoder as it is in each, the decoder taught the same
terms on top of each, and lesson 04's encoder taught lesson 04's reviews. The decoder's weights were
stored in 4 bit once, so the encoder, whose weights never were, shows all of the error.
"""

import functools
import tempfile
from dataclasses import dataclass, replace

import numpy as np
import torch
from peft import EvaConfig, PeftModel, initialize_lora_eva_weights
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib import data, evaluation
from lessons_lib.data.reviews import take_rows
from lessons_lib.evaluation.inference import Embedder, predict
from lessons_lib.evaluation.intervals import compare_paired, measure_share
from lessons_lib.evaluation.likelihood import measure_text_losses
from lessons_lib.evaluation.multiple_choice import score_questions
from lessons_lib.evaluation.records import Metrics
from lessons_lib.hardware import choose_precision
from lessons_lib.models.classifier import load_classifier
from lessons_lib.models.decoder import load_decoder
from lessons_lib.models.lora import add_lora
from lessons_lib.studies import study_04
from lessons_lib.studies.quantization import (
    FORMATS,
    list_weights,
    replace_weights,
    start_as_loftq,
)
from lessons_lib.studies.study import (
    ArmRun,
    describe_cost,
    fine_tune_facts,
    keep_probabilities,
    load_study_profile,
)
from lessons_lib.training.batches import find_pad_id, pad_batch, tokenize_reviews
from lessons_lib.training.conversations import encode_conversations
from lessons_lib.training.precision import mixed_precision_lora
from lessons_lib.training.recipe import FACTS, Recipe, train_decoder
from lessons_lib.training.tasks import classification
from lessons_lib.training.trainer import train

LESSON = "02_llama2_knowledge_augmentation"
SEEDS = (0, 1, 2)
HEADLINE = (("base", "choice_trained"), ("lora", "choice_trained"))
MODELS = ("encoder", "decoder")
DATA = ("terms", "texts")
TERMS = 300
UNTRAINED = 150
TIMES = 3
WRITTEN = 60
TEXTS = 100

Model = PreTrainedModel | PeftModel


@dataclass(frozen=True)
class QuantizedArm:
    """A model whose weights were rounded. model: "decoder" or "encoder". weights: one of FORMATS.
    trained: with LoRA on top, or asked as it is. start: how LoRA begins, "lora", "loftq" or "eva".
    """

    model: str
    weights: str
    trained: bool = True
    start: str = "lora"


# name → phrasings, how often each term is met
ARMS: dict[str, tuple[int, int] | QuantizedArm] = {
    "base": (0, 0),
    "search": (0, 1),  # no decoder: nearest-neighbour search by the encoder's vectors
    "lora": (len(data.PHRASINGS), TIMES),
    "lora_dose1": (1, TIMES),
}
# Formats of weights, one seed each.
for _name in FORMATS:
    ARMS[f"asked_{_name}"] = QuantizedArm("decoder", _name, trained=False)
    ARMS[f"encoder_{_name}"] = QuantizedArm("encoder", _name)
for _name in ("fp32", "even2"):
    ARMS[f"tuned_{_name}"] = QuantizedArm("decoder", _name)
ARMS["tuned_even2_loftq"] = QuantizedArm("decoder", "even2", start="loftq")
for _name, _start in (("nf4", "loftq"), ("even2", "loftq"), ("nf4", "eva")):
    ARMS[f"encoder_{_name}_{_start}"] = QuantizedArm("encoder", _name, start=_start)
ARM_SEEDS: dict[str, tuple[int, ...]] = {
    arm: (0,) for arm, description in ARMS.items() if isinstance(description, QuantizedArm)
}
COMPARISONS = [("lora", "lora_dose1"), ("lora", "search")]


def recompute(kept: dict[str, np.ndarray]) -> Metrics:
    """Every metric of the study from what was kept of every question."""
    groups = {name: kept[f"groups.{name}"] for name in ("trained", "untrained")}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for key, values in kept.items():
        metric, arm = key.split(".", 1)
        if arm in ARMS and not metric.startswith("generated"):
            scores.setdefault(arm, {})[metric] = values
    quantized = {arm: scores.pop(arm) for arm in list(scores) if _is_quantized(arm)}
    metrics = evaluation.summarise_scores(scores, groups=groups)
    for arm, rival in COMPARISONS:
        for metric in ("choice_trained", "relative_trained"):
            pair = compare_paired(scores[arm][metric], scores[rival][metric], groups["trained"])
            metrics.add(arm, metric, pair.difference, minus=rival)
    decoders = {arm: rows for arm, rows in quantized.items() if ARMS[arm].model == "decoder"}
    if decoders:
        metrics |= evaluation.summarise_scores(decoders, "asked_fp32", groups)
    for arm, rows in quantized.items():
        if ARMS[arm].model == "encoder":
            quantized[arm] = {"accuracy": rows["test"].argmax(-1) == kept["labels.test"]}
            metrics.add(arm, "accuracy", measure_share(quantized[arm]["accuracy"]))
    _compare_formats(metrics, quantized, groups["trained"])
    return metrics


def _is_quantized(arm: str) -> bool:
    return isinstance(ARMS[arm], QuantizedArm)


def _compare_formats(
    metrics: Metrics, scores: dict[str, dict[str, np.ndarray]], groups: np.ndarray
) -> None:
    """Adds every trained format minus 32 bits, and every other start minus LoRA's own."""
    for arm in scores:
        description = ARMS[arm]
        if not description.trained:
            continue
        title = arm.split("_")[0]
        rival = f"{title}_fp32"
        if description.start != "lora":
            rival = f"{title}_{description.weights}"
        if arm == rival or rival not in scores:
            continue
        metric = "accuracy" if description.model == "encoder" else "choice_trained"
        rows = None if description.model == "encoder" else groups
        ours = scores[arm][metric]
        theirs = scores[rival][metric][: len(ours)]  # the same seeds
        metrics.add(arm, metric, compare_paired(ours, theirs, rows).difference, minus=rival)
    for bits in (4, 3, 2):
        arm, rival = f"encoder_hqq{bits}", f"encoder_even{bits}"
        if arm in scores and rival in scores:
            pair = compare_paired(scores[arm]["accuracy"], scores[rival]["accuracy"])
            metrics.add(arm, "accuracy", pair.difference, minus=rival)


@functools.cache
def load_groups() -> dict[str, list]:
    """The study's terms; "tuning" is what its settings were chosen on."""
    sizes = {"trained": TERMS, "untrained": UNTRAINED, "tuning": 400}
    return evaluation.split_terms(
        evaluation.drop_lexical_overlap(data.read_terms(data.ONTOLOGY)), sizes, seed=0
    )


@functools.cache
def load_evaluation_set() -> evaluation.EvaluationSet:
    """The study's evaluation set, the same for every arm and seed."""
    encoder = load_study_profile(LESSON).encoder
    return evaluation.build_evaluation_set(
        load_groups(),
        encoder,
        texts=evaluation.choose_texts("snippets:news", TEXTS),
        generated_answers=WRITTEN,
    )


def run_arm(name: str, seed: int) -> ArmRun:
    """Carries one arm out; the seed decides adapter and order. The base is asked once."""
    if _is_quantized(name):
        return run_quantized(ARMS[name], seed)
    dose, times = ARMS[name]
    if name == "search":
        return search_definitions()
    return train_arm(dose, times, seed) if dose else ask_base()


@functools.cache
def search_definitions() -> ArmRun:
    """What the encoder that picked the wrong answers picks itself, as the lesson's rules do."""
    embedder = Embedder(load_study_profile(LESSON).encoder)
    evaluation_set = load_evaluation_set()
    questions = {"trained": evaluation_set.trained, "untrained": evaluation_set.untrained}
    scores = {}
    for group, asked in questions.items():
        facts = load_groups()[group]
        answers = embedder.embed([fact.answer for fact in facts], max_tokens=128)
        terms = embedder.embed([fact.term for fact in facts], max_tokens=128)
        nearest, raised = evaluation.rank_by_search(asked, terms, answers)
        right = [question.right for question in asked]
        scores[f"choice_{group}"] = nearest == right
        scores[f"relative_{group}"] = raised == right
    return ArmRun(scores, common=describe_questions())


def describe_questions() -> dict[str, np.ndarray]:
    """What is the same for all arms: the questions' groups, and the terms that are to be explained
    with their definitions."""
    evaluation_set = load_evaluation_set()
    common = {f"groups.{name}": rows for name, rows in evaluation_set.groups().items()}
    for group in ("trained", "untrained"):
        facts = load_groups()[group][: evaluation_set.generated_answers]
        common[f"expected.{group}_terms"] = np.array([fact.term for fact in facts])
        common[f"expected.{group}_definitions"] = np.array([fact.answer for fact in facts])
    return common


@functools.cache
def ask_base() -> ArmRun:
    """What the quantised model knows before any training."""
    model, tokenizer = load_decoder(
        load_study_profile(LESSON).decoder, quantization_config=FACTS.quantization_config()
    )
    return ArmRun(evaluate(model, tokenizer))


def evaluate(model: Model, tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """The scores of a model on the study's evaluation set, and the texts that it generated."""
    evaluation_set = load_evaluation_set()
    predictions = evaluation.answer_evaluation_set(model, tokenizer, evaluation_set, progress=False)
    texts = {
        "generated": predictions.answers,
        "generated_untrained": predictions.untrained_answers,
    }
    return {
        **evaluation.score_predictions(evaluation_set, predictions),
        **{name: np.array([answer.text for answer in texts[name]]) for name in texts},
    }


def train_arm(dose: int, times: int, seed: int) -> ArmRun:
    """Trains on the terms in `dose` phrasings and evaluates."""
    conversations = data.phrase_terms(load_groups()["trained"], data.PHRASINGS[:dose], times)
    decoder = load_study_profile(LESSON).decoder
    tuned, cost = fine_tune_facts(FACTS, decoder, conversations, max_tokens=256, seed=seed)
    with torch.inference_mode(), mixed_precision_lora(tuned.model, choose_precision()):
        scores = evaluate(tuned.model, tuned.tokenizer)
    return ArmRun(scores, cost=cost)


def run_quantized(arm: QuantizedArm, seed: int) -> ArmRun:
    """Carries out an arm whose weights were rounded."""
    if arm.model == "encoder":
        return train_quantized_encoder(arm, seed)
    model, tokenizer = load_decoder(load_study_profile(LESSON).decoder)
    if not arm.trained:
        cost = replace_weights(model, FORMATS[arm.weights])
        with torch.inference_mode():
            return ArmRun({"general_loss": measure_general_loss(model, tokenizer)}, cost=cost)
    conversations = data.phrase_terms(load_groups()["trained"], data.PHRASINGS, TIMES)
    recipe = replace(FACTS, quantize="none")
    rows = encode_conversations(conversations, tokenizer, 256)
    model, cost = quantize_and_adapt(model, arm, recipe, "CAUSAL_LM", seed, rows["input_ids"])
    with tempfile.TemporaryDirectory() as folder:
        tuned = train_decoder(
            recipe,
            model,
            tokenizer,
            conversations,
            max_tokens=256,
            seed=seed,
            output_dir=folder,
            progress=False,
        )
    with torch.inference_mode(), mixed_precision_lora(model, choose_precision()):
        scores = ask_choices(model, tokenizer)
    return ArmRun(scores, cost=cost | describe_cost(tuned.result))


def ask_choices(model: Model, tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """Right or not for every question about trained terms, and every general text's loss."""
    questions = load_evaluation_set().trained
    chosen = score_questions(model, tokenizer, questions, False).argmax(1)
    return {
        "choice_trained": chosen == [question.right for question in questions],
        "general_loss": measure_general_loss(model, tokenizer),
    }


def measure_general_loss(model: Model, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The loss of every general text (texts), in nats per token."""
    texts = load_evaluation_set().texts
    return measure_text_losses(model, tokenizer, texts, progress=False)


def train_quantized_encoder(arm: QuantizedArm, seed: int) -> ArmRun:
    """Lesson 04's encoder and recipe on rounded weights; its probabilities on the test rows."""
    recipe = study_04.TUNED
    splits = study_04.load_splits()
    splits = {**splits, "train": take_rows(splits["train"], study_04.SMALL, seed)}
    profile = load_study_profile(study_04.LESSON)
    model, tokenizer = load_classifier(profile.encoder, seed=seed, dropout=recipe.dropout)
    tokens = {
        name: tokenize_reviews(rows, tokenizer, profile.max_tokens) for name, rows in splits.items()
    }
    model, cost = quantize_and_adapt(
        model, arm, recipe, "SEQ_CLS", seed, tokens["train"]["input_ids"]
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            model,
            tokens["train"],
            None,
            recipe.train_settings(seed),
            task=classification(model),
            output_dir=folder,
            progress=False,
        )
    cost["seconds"] = result.seconds
    return keep_probabilities(
        predict(model, tokens["test"]), np.array(tokens["test"]["labels"]), cost=cost
    )


def quantize_and_adapt(
    model: nn.Module,
    arm: QuantizedArm,
    recipe: Recipe,
    task_type: str,
    seed: int,
    token_ids: list[list[int]],
) -> tuple[PeftModel, dict[str, float]]:
    """The model on rounded weights with LoRA on top, started as the arm says; bits per weight, the
    weights' error, and the error that is left when LoRA has started. token_ids: the training rows,
    by which EVA chooses its start."""
    exact = {name: layer.weight.detach().clone() for name, layer in list_weights(model)}
    cost = replace_weights(model, FORMATS[arm.weights])
    config = recipe.lora_config(task_type)
    if arm.start == "eva":
        config.init_lora_weights = "eva"
        config.eva_config = EvaConfig(rho=1.0)  # the rank stays the same in all layers
    model = add_lora(model, config, seed=seed)
    if arm.start == "eva":
        pad_id = find_pad_id(model)
        batches = []
        for start in range(0, len(token_ids), recipe.batch_size):
            rows = token_ids[start : start + recipe.batch_size]
            batches.append(pad_batch([{"input_ids": row} for row in rows], pad_id))
        initialize_lora_eva_weights(model, batches, show_progress_bar=False)
    cost["start_error"] = cost["weight_error"]
    if arm.start == "loftq":
        cost["start_error"] = start_as_loftq(model, exact, FORMATS[arm.weights])
    return model, cost

"""The study behind lesson 02: 300 medical terms, each met three times: in one phrasing, or in three
drawn from ten, with equal training tokens but for the phrasings' own.

The learning rate, the batch size and the way choices are scored were settled on other terms of the
ontology, which are neither trained nor asked here. Every arm answers the lesson's own evaluation
set; wrong choices come from balanced groups of four terms, which are resampled together.
"""

import functools

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib import data, evaluation
from lessons_lib.evaluation.inference import Embedder
from lessons_lib.evaluation.intervals import compare_paired
from lessons_lib.evaluation.records import Metrics
from lessons_lib.hardware import choose_precision
from lessons_lib.models.decoder import load_decoder
from lessons_lib.studies.study import ArmRun, fine_tune_facts, load_study_profile
from lessons_lib.training.precision import mixed_precision_lora
from lessons_lib.training.recipe import FACTS

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

# name → phrasings, how often each term is met
ARMS: dict[str, tuple[int, int]] = {
    "base": (0, 0),
    "search": (0, 1),  # no decoder: nearest-neighbour search by the encoder's vectors
    "lora": (len(data.PHRASINGS), TIMES),
    "lora_dose1": (1, TIMES),
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
    metrics = evaluation.summarise_scores(scores, groups=groups)
    for arm, rival in COMPARISONS:
        for metric in ("choice_trained", "relative_trained"):
            pair = compare_paired(scores[arm][metric], scores[rival][metric], groups["trained"])
            metrics.add(arm, metric, pair.difference, minus=rival)
    return metrics


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

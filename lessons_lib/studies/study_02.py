"""The study behind lesson 02: 300 medical terms, each met three times: in one phrasing, in three,
or in three drawn from ten, with equal training tokens but for the phrasings' own.

The learning rate, the batch size and the way choices are scored were settled on other terms of the
ontology, which are neither trained nor asked here. Every arm sits the lesson's own exam.
"""

import functools

import numpy as np
import torch
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig

from lessons_lib import data, evaluation
from lessons_lib.evaluation.inference import Embedder
from lessons_lib.evaluation.intervals import Metric, compare_paired
from lessons_lib.hardware import choose_precision
from lessons_lib.models.decoder import load_decoder
from lessons_lib.models.lora import add_lora
from lessons_lib.studies.study import ArmRun, load_study_profile, teach
from lessons_lib.training.precision import compute_in
from lessons_lib.training.recipe import FACTS_LORA, FACTS_SETTINGS, NF4

LESSON = "02_llama2_knowledge_augmentation"
SEEDS = (0, 1, 2)
HEADLINE = ("base.choice_trained", "lora.choice_trained")
TERMS = 300
UNTRAINED = 150
TIMES = 3
WRITTEN = 60
TEXTS = 100
QUANTIZE = NF4
LORA = FACTS_LORA
SETTINGS = FACTS_SETTINGS

# name → phrasings, how often each term is met
ARMS: dict[str, tuple[int, int]] = {
    "base": (0, 0),
    "search": (0, 1),  # no decoder: the definition whose embedding is most like the term's
    "lora": (len(data.PHRASINGS), TIMES),
    "lora_dose1": (1, TIMES),
    "lora_dose3": (3, TIMES),
}
COMPARISONS = [("lora_dose3", "lora_dose1"), ("lora", "lora_dose1"), ("lora", "search")]


def recompute(kept: dict[str, np.ndarray]) -> dict[str, Metric]:
    """Every metric of the study from what was kept of every question."""
    marks: dict[str, dict[str, np.ndarray]] = {}
    for key, values in kept.items():
        name, arm = key.split(".", 1)
        marks.setdefault(arm, {})[name] = values
    metrics = evaluation.report_marks(marks)
    for a, b in COMPARISONS:
        difference = compare_paired(
            marks[a]["choice_trained"], marks[b]["choice_trained"]
        ).difference
        metrics[f"{a}_minus_{b}.choice_trained"] = difference
    return metrics


@functools.cache
def load_groups() -> dict[str, list]:
    """The study's terms; "tuning" is what its settings were chosen on."""
    sizes = {"trained": TERMS, "untrained": UNTRAINED, "tuning": 400}
    return evaluation.split_terms(
        evaluation.drop_giveaways(data.read_terms(data.ONTOLOGY)), sizes, seed=0
    )


@functools.cache
def load_exam() -> evaluation.Exam:
    """The study's exam, the same for every arm and seed."""
    encoder = load_study_profile(LESSON).encoder
    return evaluation.build_exam(
        load_groups(),
        encoder,
        texts=evaluation.choose_texts("snippets:news", TEXTS),
        written=WRITTEN,
    )


def run_arm(name: str, seed: int) -> ArmRun:
    """Carries one arm out; the seed decides adapter and order. The base is asked once."""
    dose, times = ARMS[name]
    if name == "search":
        return search_definitions()
    return train_arm(dose, times, seed) if dose else ask_base()


@functools.cache
def search_definitions() -> ArmRun:
    """What the encoder that picked the wrong answers picks itself, as the lesson's section 6
    does.
    """
    embedder = Embedder(load_study_profile(LESSON).encoder)
    marks = {}
    for group, questions in (
        ("trained", load_exam().trained),
        ("untrained", load_exam().untrained),
    ):
        terms = load_groups()[group]
        answers = embedder.embed([term.answer for term in terms], max_tokens=128)
        names = embedder.embed([term.term for term in terms], max_tokens=128)
        place = {term.answer: number for number, term in enumerate(terms)}
        picked = [
            (answers[[place[choice] for choice in question.choices]] @ name).argmax()
            for question, name in zip(questions, names, strict=True)
        ]
        marks[f"choice_{group}"] = np.array(picked) == [question.right for question in questions]
    return ArmRun(marks)


@functools.cache
def ask_base() -> ArmRun:
    """What the quantised model knows before any training."""
    model, tokenizer = load_quantized()
    return ArmRun(
        evaluation.mark_sitting(
            load_exam(), evaluation.sit_exam(model, tokenizer, load_exam(), progress=False)
        )
    )


def load_quantized() -> tuple:
    """The laptop profile's decoder in 4 bit, and its tokenizer."""
    config = BitsAndBytesConfig(**QUANTIZE, bnb_4bit_compute_dtype=choose_precision().torch_dtype)
    return load_decoder(load_study_profile(LESSON).decoder, quantization_config=config)


def train_arm(dose: int, times: int, seed: int) -> ArmRun:
    """Teaches the trained terms in `dose` phrasings and sits the exam."""
    model, tokenizer = load_quantized()
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = add_lora(model, LoraConfig(**LORA), seed=seed)
    dialogs = data.phrase_terms(load_groups()["trained"], data.PHRASINGS[:dose], times)
    cost = teach(model, tokenizer, dialogs, {**SETTINGS, "seed": seed}, max_tokens=256)
    with torch.inference_mode(), compute_in(model, choose_precision()):
        sitting = evaluation.sit_exam(model, tokenizer, load_exam(), progress=False)
    return ArmRun(evaluation.mark_sitting(load_exam(), sitting), cost=cost)

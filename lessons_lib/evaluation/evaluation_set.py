"""What a decoder is asked before and after training: an evaluation set, its predictions, scores.

Contract: what a model is asked in is never what it was trained in. It trains nothing.
"""

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib.data import read_snippets
from lessons_lib.data.facts import Conversation
from lessons_lib.data.phrasings import MEDICAL, Phrasings
from lessons_lib.errors import DataError
from lessons_lib.evaluation.intervals import bootstrap_interval
from lessons_lib.evaluation.likelihood import Answer, generate_answers, measure_text_losses
from lessons_lib.evaluation.metrics import score_token_f1
from lessons_lib.evaluation.multiple_choice import (
    ChoiceQuestion,
    build_choices,
    embed_answers,
    score_questions,
)
from lessons_lib.evaluation.records import Metrics
from lessons_lib.models.decoder import render_chat
from lessons_lib.paths import SAMPLES

GENERAL_QUESTIONS = SAMPLES / "general_questions.json"
GROUPS = ("trained", "untrained")


@dataclass(frozen=True)
class EvaluationSet:
    """What a model is asked before and after training: four-way questions about trained facts,
    about facts never trained and about general ones; general texts; and how many trained facts it
    explains in its own words."""

    trained: list[ChoiceQuestion]
    untrained: list[ChoiceQuestion]
    general: list[ChoiceQuestion]
    texts: list[str]
    generated_answers: int


@dataclass(frozen=True)
class Predictions:
    """What a model answered to an evaluation set. `scores` are the mean log-likelihoods per token
    of every choice (questions, 4) by part; "blind" asks the trained questions without their term;
    `losses` are those of the general texts; `answers` its own words."""

    scores: dict[str, np.ndarray]
    losses: np.ndarray
    answers: list[Answer]


def build_evaluation_set(
    groups: dict[str, list[Conversation]],
    encoder: str,
    *,
    texts: list[str],
    generated_answers: int,
    seed: int = 0,
    phrasings: Phrasings = MEDICAL,
) -> EvaluationSet:
    """Questions about the groups "trained" and, if there is one, "untrained", asked in the
    evaluation's phrasing, with the course's own general questions. `encoder` (a model's name) finds
    the distractors."""
    questions = {name: [] for name in GROUPS}
    for name in GROUPS:
        if name in groups:
            questions[name] = build_choices(
                groups[name],
                embed_answers(groups[name], encoder),
                seed,
                phrasings.evaluation,
                placeholder=phrasings.placeholder,
            )
    general = []
    for row in json.loads(GENERAL_QUESTIONS.read_text(encoding="utf-8")):
        general.append(ChoiceQuestion(row["question"], tuple(row["choices"]), row["right"]))
    return EvaluationSet(
        questions["trained"], questions["untrained"], general, texts, generated_answers
    )


def choose_texts(source: str, count: int, seed: int = 0) -> list[str]:
    """`count` general sentences of 12 to 30 words: from the packaged news editorials
    ("snippets:news"), or from the course's own sample of reviews ("samples"). Raises DataError for
    other sources."""
    if source == "samples":
        return pd.read_csv(SAMPLES / "movie_reviews.csv")["text"].tolist()[:count]
    if not source.startswith("snippets:"):
        raise DataError(
            f"there are no general sentences in {source!r}.",
            remedy='"snippets:news", or "samples".',
        )
    sentences = read_snippets(source.removeprefix("snippets:"))["text"]
    texts = [text for text in sentences if 12 <= len(text.split()) <= 30]
    return [texts[number] for number in np.random.default_rng(seed).permutation(len(texts))[:count]]


def answer_evaluation_set(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    evaluation_set: EvaluationSet,
    *,
    max_new_tokens: int = 64,
    progress: bool = True,
) -> Predictions:
    """Asks a model everything in `evaluation_set`."""
    trained = evaluation_set.trained
    parts = {
        "trained": trained,
        "untrained": evaluation_set.untrained,
        "blind": [replace(question, question=question.control) for question in trained],
        "general": evaluation_set.general,
    }
    scores = {}
    for name, questions in parts.items():
        scores[name] = score_questions(model, tokenizer, questions, progress)
    losses = measure_text_losses(model, tokenizer, evaluation_set.texts, progress=progress)
    asked = trained[: evaluation_set.generated_answers]
    prompts = [render_chat(tokenizer, question.question) for question in asked]
    answers = generate_answers(
        model, tokenizer, prompts, max_new_tokens=max_new_tokens, progress=progress
    )
    return Predictions(scores, losses, answers)


def score_predictions(
    evaluation_set: EvaluationSet, predictions: Predictions
) -> dict[str, np.ndarray]:
    """What every question and text counts (rows), by metric: right or not, nats per token, F1,
    stopped or not, tokens. "relative_trained" takes the choice whose likelihood the term raises
    most."""
    right = _list_right(evaluation_set.trained)
    rows = np.arange(len(right))
    scores = predictions.scores
    relative = scores["trained"] - scores["blind"]
    answers = predictions.answers
    answered = zip(answers, evaluation_set.trained, strict=False)
    token_f1 = [
        score_token_f1(answer.text, question.choices[question.right])
        for answer, question in answered
    ]
    return {
        "choice_trained": scores["trained"].argmax(1) == right,
        "choice_untrained": scores["untrained"].argmax(1) == _list_right(evaluation_set.untrained),
        "choice_blind": scores["blind"].argmax(1) == right,
        "choice_general": scores["general"].argmax(1) == _list_right(evaluation_set.general),
        "relative_trained": relative.argmax(1) == right,
        "definition_loss": -scores["trained"][rows, right],
        "general_loss": predictions.losses,
        "token_f1": np.array(token_f1),
        "stop_rate": np.array([answer.stopped for answer in answers]),
        "answer_tokens": np.array([answer.tokens for answer in answers]),
    }


def _list_right(questions: list[ChoiceQuestion]) -> np.ndarray:
    """The number of each question's right choice."""
    return np.array([question.right for question in questions], dtype=int)


def summarise_scores(scores: dict[str, dict[str, np.ndarray]], base: str = "base") -> Metrics:
    """Every system's metrics with intervals; against `base` also `gain_trained`, `gain_untrained`
    and `gain_general` (choices), and `general_loss_change` (a share of the base's loss).

    scores: what `score_predictions` returns by system; arrays (rows) or (seeds, rows). Differences
    are paired.
    """
    metrics = Metrics()
    for system, by_metric in scores.items():
        by_metric = {name: values for name, values in by_metric.items() if np.size(values)}
        for name, values in by_metric.items():
            metrics.add(system, name, bootstrap_interval(values))
        if system == base:
            continue
        gains = {
            name: np.asarray(values, float) - scores[base][name]
            for name, values in by_metric.items()
        }
        for group in (*GROUPS, "general"):
            if f"choice_{group}" in gains:
                metrics.add(system, f"gain_{group}", bootstrap_interval(gains[f"choice_{group}"]))
        if "general_loss" in gains:
            change = gains["general_loss"] / np.mean(scores[base]["general_loss"])
            metrics.add(system, "general_loss_change", bootstrap_interval(change))
    return metrics

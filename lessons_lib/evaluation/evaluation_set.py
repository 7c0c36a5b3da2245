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
from lessons_lib.evaluation.intervals import (
    bootstrap_difference,
    bootstrap_interval,
    measure_mean,
)
from lessons_lib.evaluation.likelihood import Answer, generate_answers, measure_text_losses
from lessons_lib.evaluation.metrics import mark_answer, score_token_f1
from lessons_lib.evaluation.multiple_choice import (
    ChoiceQuestion,
    build_choices,
    embed_answers,
    find_groups,
    score_questions,
)
from lessons_lib.evaluation.records import Metrics
from lessons_lib.models.decoder import render_chat
from lessons_lib.paths import SAMPLES

GENERAL_QUESTIONS = SAMPLES / "general_questions.json"
GROUPS = ("trained", "untrained")
# gains of trained facts minus those of untrained ones: title, metric, its control
ADJUSTED = (
    ("gain_adjusted", "choice_trained", "choice_untrained"),
    ("gain_token_f1_adjusted", "token_f1", "token_f1_untrained"),
    ("gain_fact_right_adjusted", "fact_right", "fact_right_untrained"),
)


@dataclass(frozen=True)
class EvaluationSet:
    """What a model is asked before and after training: four-way questions about trained facts,
    about facts never trained and about general ones; general texts; and how many facts, trained
    ones and as many untrained ones, it explains in its own words."""

    trained: list[ChoiceQuestion]
    untrained: list[ChoiceQuestion]
    general: list[ChoiceQuestion]
    texts: list[str]
    generated_answers: int

    def groups(self) -> dict[str, np.ndarray]:
        """For trained and untrained questions, the balanced group of each (questions)."""
        return {"trained": find_groups(self.trained), "untrained": find_groups(self.untrained)}


@dataclass(frozen=True)
class Predictions:
    """What a model answered to an evaluation set. `scores` are the mean log-likelihoods per token
    of every choice (questions, 4) by part; "blind" asks the trained questions without their term;
    `losses` are those of the general texts; `answers` its own words about trained facts,
    `untrained_answers` about untrained ones."""

    scores: dict[str, np.ndarray]
    losses: np.ndarray
    answers: list[Answer]
    untrained_answers: list[Answer]


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
    evaluation's phrasing, with the course's own general questions. Distractors come from balanced
    groups of four facts that are alike, by the vectors of `encoder` (a model's name): see
    `build_choices`."""
    questions = {name: [] for name in GROUPS}
    for name in GROUPS:
        if name in groups:
            questions[name] = build_choices(
                groups[name],
                embed_answers(groups[name], encoder),
                seed,
                phrasings.evaluation,
                balanced=True,
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
    answers = []
    for questions in (trained, evaluation_set.untrained):
        asked = questions[: evaluation_set.generated_answers]
        prompts = [render_chat(tokenizer, question.question) for question in asked]
        answers.append(
            generate_answers(
                model, tokenizer, prompts, max_new_tokens=max_new_tokens, progress=progress
            )
        )
    return Predictions(scores, losses, *answers)


def score_predictions(
    evaluation_set: EvaluationSet, predictions: Predictions
) -> dict[str, np.ndarray]:
    """What every question and text counts (rows), by metric: right or not, nats per token, F1,
    stopped or not, tokens. "relative_trained" takes the choice whose likelihood the term raises
    most; "fact_right" and "fact_half" are generated answers as `mark_answer` marks them,
    "…_untrained" those about untrained facts."""
    right = _list_right(evaluation_set.trained)
    rows = np.arange(len(right))
    scores = predictions.scores
    relative = scores["trained"] - scores["blind"]
    answers = predictions.answers
    return {
        "choice_trained": scores["trained"].argmax(1) == right,
        "choice_untrained": scores["untrained"].argmax(1) == _list_right(evaluation_set.untrained),
        "choice_blind": scores["blind"].argmax(1) == right,
        "choice_general": scores["general"].argmax(1) == _list_right(evaluation_set.general),
        "relative_trained": relative.argmax(1) == right,
        "definition_loss": -scores["trained"][rows, right],
        "general_loss": predictions.losses,
        **_score_answers(answers, evaluation_set.trained, ""),
        **_score_answers(predictions.untrained_answers, evaluation_set.untrained, "_untrained"),
        "stop_rate": np.array([answer.stopped for answer in answers]),
        "answer_tokens": np.array([answer.tokens for answer in answers]),
    }


def _score_answers(
    answers: list[Answer], questions: list[ChoiceQuestion], ending: str
) -> dict[str, np.ndarray]:
    """What generated answers to the first of `questions` count, by metric."""
    token_f1 = []
    marks = []
    for answer, question in zip(answers, questions, strict=False):
        definition = question.choices[question.right]
        token_f1.append(score_token_f1(answer.text, definition))
        marks.append(mark_answer(answer.text, definition))
    return {
        f"token_f1{ending}": np.array(token_f1),
        f"fact_right{ending}": np.array([mark == "right" for mark in marks], dtype=bool),
        f"fact_half{ending}": np.array([mark == "half" for mark in marks], dtype=bool),
    }


def _list_right(questions: list[ChoiceQuestion]) -> np.ndarray:
    """The number of each question's right choice."""
    return np.array([question.right for question in questions], dtype=int)


def summarise_scores(
    scores: dict[str, dict[str, np.ndarray]],
    base: str = "base",
    groups: dict[str, np.ndarray] | None = None,
) -> Metrics:
    """Every system's metrics with intervals; against `base` also `gain_trained`, `gain_untrained`
    and `gain_general` (choices), `gain_token_f1`, the trained gains minus the untrained ones (see
    ADJUSTED), and `general_loss_change` (a share of the base's loss).

    scores: what `score_predictions` returns by system; arrays (rows) or (seeds, rows). groups: as
    `EvaluationSet.groups` gives them; questions of a group are resampled together. Differences are
    paired.
    """
    groups = groups or {}
    metrics = Metrics()
    for system, by_metric in scores.items():
        by_metric = {name: values for name, values in by_metric.items() if np.size(values)}
        for name, values in by_metric.items():
            rows = _choose_groups(name, np.shape(values)[-1], groups)
            metrics.add(system, name, measure_mean(values, rows))
        if system != base:
            _add_gains(metrics, system, by_metric, scores[base], groups)
    return metrics


def _add_gains(
    metrics: Metrics,
    system: str,
    by_metric: dict[str, np.ndarray],
    before: dict[str, np.ndarray],
    groups: dict[str, np.ndarray],
) -> None:
    gains = {
        name: np.asarray(values, float) - before[name]
        for name, values in by_metric.items()
        if name in before
    }
    rows = {name: _choose_groups(name, gain.shape[-1], groups) for name, gain in gains.items()}
    titles = {
        "choice_trained": "gain_trained",
        "choice_untrained": "gain_untrained",
        "choice_general": "gain_general",
        "token_f1": "gain_token_f1",
    }
    for name, title in titles.items():
        if name in gains:
            metrics.add(system, title, bootstrap_interval(gains[name], rows[name]))
    for title, name, control in ADJUSTED:
        if name in gains and control in gains:
            adjusted = bootstrap_difference(gains[name], gains[control], rows[name], rows[control])
            metrics.add(system, title, adjusted)
    if "general_loss" in gains:
        change = gains["general_loss"] / np.mean(before["general_loss"])
        metrics.add(system, "general_loss_change", bootstrap_interval(change))


def _choose_groups(name: str, count: int, groups: dict[str, np.ndarray]) -> np.ndarray | None:
    """The groups of a metric's rows: general questions and texts have none, and what is generated
    is about the first of the trained facts."""
    if "general" in name or not groups:
        return None
    return groups["untrained" if "untrained" in name else "trained"][:count]

"""Multiple-choice questions about facts, and an exam of them, before and after training.

Contract: a fact is a `Dialog` with a term; what a model is asked in is never what it was trained
in; distractors are the nearest right answers of other facts of the same group, so of trained facts
for a trained one. It trains nothing and draws no figures.
"""

import json
import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib.data import DataError, read_snippets
from lessons_lib.data.facts import Dialog
from lessons_lib.data.phrasings import BLIND, HELD_OUT, MEDICAL, Phrasings, phrase_terms
from lessons_lib.evaluation.inference import Embedder
from lessons_lib.evaluation.intervals import Metric, bootstrap_interval
from lessons_lib.evaluation.likelihood import Answer, generate_answers, score_choices, score_texts
from lessons_lib.evaluation.metrics import score_token_f1
from lessons_lib.models.decoder import render_chat
from lessons_lib.paths import SAMPLES

NO_TERM = "What is the answer?"  # the control of a question that names no term
STEM = 5  # letters; words that begin alike count as one word


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question, its four possible answers and the number of the right one; `control` is the
    question as it is asked without its term."""

    question: str
    choices: tuple[str, ...]
    right: int
    control: str = NO_TERM


def drop_giveaways(terms: list[Dialog], least: int = 6, most: int = 30) -> list[Dialog]:
    """The terms whose definition has `least` to `most` words and none that begins as a word of the
    term does: otherwise matching words, not knowing, finds the definition."""
    return [
        term
        for term in terms
        if least <= len(term.answer.split()) <= most and not _stems(term.term) & _stems(term.answer)
    ]


def split_terms(terms: list[Dialog], sizes: dict[str, int], seed: int) -> dict[str, list[Dialog]]:
    """Disjoint random groups of `terms`, in the order of `sizes`; equal answers stay in the first
    group met. Where there are too few terms, each group gets four and a share of the rest."""
    unique = list({term.answer.lower(): term for term in terms}.values())
    if len(unique) < 4 * len(sizes):
        need = f"{4 * len(sizes)} are needed, four choices a group."
        raise DataError(f"{len(unique)} different answers are too few: {need}", remedy="add facts.")
    order = np.random.default_rng(seed).permutation(len(unique))
    spare = len(unique) - 4 * len(sizes)  # beyond the four that each group needs
    share = min(1.0, spare / max(1, sum(sizes.values()) - 4 * len(sizes)))
    groups = {}
    start = 0
    for name, size in sizes.items():
        end = start + 4 + int((size - 4) * share)
        groups[name] = [unique[i] for i in order[start:end]]
        start = end
    return groups


def embed_answers(terms: list[Dialog], encoder: str) -> np.ndarray:
    """A unit vector (terms, width) of every answer by the encoder of that name."""
    return Embedder(encoder).embed([term.answer for term in terms], max_tokens=128)


def build_choices(
    terms: list[Dialog],
    vectors: np.ndarray,
    seed: int,
    phrasing: str = HELD_OUT,
    quartets: bool = False,
    stand_in: str = BLIND,
) -> list[ChoiceQuestion]:
    """A question a term: its answer and the three nearest of the other terms' answers, in random
    order. In its control, `stand_in` stands for the term.

    vectors: an embedding of every answer (terms, width); nearest are those of the largest cosine.
    quartets: four terms offer each other's answers, so that each is right once and wrong three
    times, and whoever only knows which answers sound right is right in one of four (left over are
    at most three terms).
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -4.0)
    if quartets:
        groups = _group_in_fours(likeness)
        likeness += 2.0 * (groups[:, None] == groups)  # more than any two answers are alike
    random = np.random.default_rng(seed)
    questions = []
    for number, term in enumerate(phrase_terms(terms, [phrasing], 1)):
        options = random.permutation([number, *np.argsort(-likeness[number], kind="stable")[:3]])
        choices = tuple(terms[i].answer for i in options)
        right = int(np.flatnonzero(options == number)[0])
        control = phrasing.format(stand_in) if term.term else NO_TERM
        questions.append(ChoiceQuestion(term.question, choices, right, control))
    return questions


def _group_in_fours(likeness: np.ndarray) -> np.ndarray:
    """A group's number for every row: each first row left takes the three left that it is most
    like.
    """
    groups = np.full(len(likeness), -1)
    left = list(range(len(likeness)))
    while left:
        first, *others = left
        others.sort(key=lambda row: -likeness[first, row])
        groups[[first, *others[:3]]] = first
        left = sorted(others[3:])
    return groups


@dataclass(frozen=True)
class Exam:
    """What a model is asked before and after: four-way questions about trained facts, about facts
    never trained and about general ones; general texts; and how many trained facts it explains in
    its own words."""

    trained: list[ChoiceQuestion]
    untrained: list[ChoiceQuestion]
    general: list[ChoiceQuestion]
    texts: list[str]
    written: int


@dataclass(frozen=True)
class Sitting:
    """What a model did in an exam. `scores` are the mean log-likelihoods a token of every choice
    (questions, 4) by part; "blind" asks the trained questions without their term; `losses` are
    those of the general texts; `answers` its own words."""

    scores: dict[str, np.ndarray]
    losses: np.ndarray
    answers: list[Answer]


def build_exam(
    groups: dict[str, list[Dialog]],
    encoder: str,
    *,
    texts: list[str],
    written: int,
    seed: int = 0,
    phrasings: Phrasings = MEDICAL,
) -> Exam:
    """An exam about the groups "trained" and, if there is one, "untrained", asked in the
    evaluation's phrasing, with the course's own general questions."""
    questions = {"trained": [], "untrained": []}
    for name in questions:
        if name in groups:
            questions[name] = build_choices(
                groups[name],
                embed_answers(groups[name], encoder),
                seed,
                phrasings.evaluation,
                stand_in=phrasings.stand_in,
            )
    rows = json.loads((SAMPLES / "general_questions.json").read_text(encoding="utf-8"))
    general = [ChoiceQuestion(row["question"], tuple(row["choices"]), row["right"]) for row in rows]
    return Exam(questions["trained"], questions["untrained"], general, texts, written)


def choose_texts(source: str, count: int, seed: int = 0) -> list[str]:
    """`count` general sentences of 12 to 30 words: from the packaged news editorials
    ("snippets:news"), or from the course's own sample of reviews ("samples")."""
    if source == "samples":
        return pd.read_csv(SAMPLES / "movie_reviews.csv")["text"].tolist()[:count]
    texts = [
        t for t in read_snippets(source.partition(":")[2])["text"] if 12 <= len(t.split()) <= 30
    ]
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))[:count]]


def sit_exam(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    exam: Exam,
    *,
    max_new_tokens: int = 64,
    progress: bool = True,
) -> Sitting:
    """Asks a model everything in `exam`."""
    blind = [replace(question, question=question.control) for question in exam.trained]
    parts = {
        "trained": exam.trained,
        "untrained": exam.untrained,
        "blind": blind,
        "general": exam.general,
    }
    scores = {
        name: score_questions(model, tokenizer, part, progress) for name, part in parts.items()
    }
    prompts = [render_chat(tokenizer, q.question) for q in exam.trained[: exam.written]]
    return Sitting(
        scores,
        score_texts(model, tokenizer, exam.texts, progress=progress),
        generate_answers(
            model, tokenizer, prompts, max_new_tokens=max_new_tokens, progress=progress
        ),
    )


def score_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[ChoiceQuestion],
    progress: bool,
) -> np.ndarray:
    """The mean log-likelihood a token of every choice (questions, 4)."""
    if not questions:
        return np.empty((0, 4))
    prompts = [render_chat(tokenizer, q.question) for q in questions]
    sums = score_choices(
        model, tokenizer, prompts, [list(q.choices) for q in questions], progress=progress
    )
    lengths = [tokenizer(list(q.choices), add_special_tokens=False)["input_ids"] for q in questions]
    return sums / np.array([[len(ids) for ids in row] for row in lengths])


def mark_sitting(exam: Exam, sitting: Sitting) -> dict[str, np.ndarray]:
    """What every question and text counts (rows), by metric: right or not, nats a token, F1,
    stopped or not, tokens. "relative_trained" judges a choice by how much likelier it is with the
    term than without."""
    right = np.array([q.right for q in exam.trained])
    rows = np.arange(len(right))
    scores = sitting.scores
    written = zip(sitting.answers, exam.trained, strict=False)
    relative = (scores["trained"] - scores["blind"]).argmax(1)
    return {
        "choice_trained": scores["trained"].argmax(1) == right,
        "choice_untrained": scores["untrained"].argmax(1) == [q.right for q in exam.untrained],
        "choice_blind": scores["blind"].argmax(1) == right,
        "choice_general": scores["general"].argmax(1) == [q.right for q in exam.general],
        "relative_trained": relative == right,
        "definition_loss": -scores["trained"][rows, right],
        "general_loss": sitting.losses,
        "token_f1": np.array([score_token_f1(a.text, q.choices[q.right]) for a, q in written]),
        "stop_rate": np.array([a.stopped for a in sitting.answers]),
        "answer_tokens": np.array([a.tokens for a in sitting.answers]),
    }


def report_marks(marks: dict[str, dict[str, np.ndarray]], base: str = "base") -> dict[str, Metric]:
    """Every system's metrics with intervals, `<system>.<metric>`; against `base` also
    `gain_trained`, `gain_untrained` and `gain_general` (choices), and `general_loss_change` (a
    share of the base's loss).

    marks: what `mark_sitting` returns by system; arrays (rows) or (seeds, rows). Differences are
    paired.
    """
    metrics = {}
    for system, marked in marks.items():
        marked = {name: values for name, values in marked.items() if np.size(values)}
        metrics |= {
            f"{system}.{name}": bootstrap_interval(values) for name, values in marked.items()
        }
        if system == base:
            continue
        gains = {
            name: np.asarray(values, float) - marks[base][name] for name, values in marked.items()
        }
        for name in ("trained", "untrained", "general"):
            if f"choice_{name}" in gains:
                metrics[f"{system}.gain_{name}"] = bootstrap_interval(gains[f"choice_{name}"])
        if "general_loss" in gains:
            change = gains["general_loss"] / np.mean(marks[base]["general_loss"])
            metrics[f"{system}.general_loss_change"] = bootstrap_interval(change)
    return metrics


def _stems(text: str) -> set[str]:
    return {word[:STEM] for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3}

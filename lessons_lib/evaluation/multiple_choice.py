"""Four-way questions about facts: which facts are asked, and which wrong answers stand beside the
right one.

Contract: distractors are right answers of other facts of the same group, so of trained facts for a
trained one. It loads an encoder to compare answers, and asks no decoder but in `score_questions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib.data import DataError
from lessons_lib.data.facts import Conversation, Fact
from lessons_lib.data.phrasings import BLIND, HELD_OUT, phrase_terms
from lessons_lib.evaluation.inference import Embedder
from lessons_lib.evaluation.likelihood import score_choices
from lessons_lib.evaluation.metrics import find_stems
from lessons_lib.models.decoder import render_chat

NO_TERM = "What is the answer?"  # the control of a question that names no term
CHOICES = 4
ITSELF = -4.0  # a similarity below any cosine: no answer is its own distractor
SAME_GROUP = 2.0  # added to the similarity within a group: more than any two answers are alike


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question, its possible answers and the number of the right one.

    control: the question as it is asked without its term. facts: for every choice the number of the
    fact whose answer it is, in the list that the question was built from; empty for general
    questions.
    """

    question: str
    choices: tuple[str, ...]
    right: int
    control: str = NO_TERM
    facts: tuple[int, ...] = ()


def drop_lexical_overlap(facts: Sequence[Fact], least: int = 6, most: int = 30) -> list[Fact]:
    """The facts whose definition has `least` to `most` words and none that begins as a word of the
    term does: otherwise matching words, not knowing, finds the definition."""
    return [
        fact
        for fact in facts
        if least <= len(fact.answer.split()) <= most
        and not find_stems(fact.term) & find_stems(fact.answer)
    ]


def split_terms(
    facts: Sequence[Conversation], sizes: dict[str, int], seed: int
) -> dict[str, list[Conversation]]:
    """Disjoint random groups of `facts`, in the order of `sizes`; equal answers stay in the first
    group met. Where there are too few facts, each group gets four and a share of the rest. Raises
    DataError where there are not four for each."""
    unique = list({fact.answer.lower(): fact for fact in facts}.values())
    least = CHOICES * len(sizes)
    if len(unique) < least:
        raise DataError(
            f"{len(unique)} different answers are too few: {least} are needed, "
            f"{CHOICES} choices per group.",
            remedy="add facts.",
        )
    order = np.random.default_rng(seed).permutation(len(unique))
    spare = len(unique) - least  # beyond the four that each group needs
    share = min(1.0, spare / max(1, sum(sizes.values()) - least))
    groups = {}
    start = 0
    for name, size in sizes.items():
        end = start + CHOICES + int((size - CHOICES) * share)
        groups[name] = [unique[number] for number in order[start:end]]
        start = end
    return groups


def embed_answers(facts: Sequence[Conversation], encoder: str) -> np.ndarray:
    """A unit vector per answer (facts, width), by the encoder of that name."""
    return Embedder(encoder).embed([fact.answer for fact in facts], max_tokens=128)


def build_choices(
    facts: Sequence[Conversation],
    vectors: np.ndarray,
    seed: int,
    phrasing: str = HELD_OUT,
    balanced: bool = False,
    placeholder: str = BLIND,
) -> list[ChoiceQuestion]:
    """A question per fact: its answer and the three nearest of the other facts' answers, in random
    order. Its control has `placeholder` in place of the term.

    vectors: an embedding of every answer (facts, width); nearest are those of the largest cosine.
    balanced: distractors come from balanced groups. Four facts offer each other's answers, so that
    each answer is right once and wrong three times, and a rule that does not see the term is right
    in one of four. At most three facts are left over and borrow distractors.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, ITSELF)
    if balanced:
        groups = _group_in_fours(similarity)
        similarity += SAME_GROUP * (groups[:, None] == groups)
    random = np.random.default_rng(seed)
    questions = []
    for number, asked in enumerate(phrase_terms(facts, [phrasing], 1)):
        nearest = np.argsort(-similarity[number], kind="stable")[: CHOICES - 1]
        options = random.permutation([number, *nearest])
        question = ChoiceQuestion(
            question=asked.question,
            choices=tuple(facts[option].answer for option in options),
            right=int(np.flatnonzero(options == number)[0]),
            control=phrasing.format(placeholder) if isinstance(asked, Fact) else NO_TERM,
            facts=tuple(int(option) for option in options),
        )
        questions.append(question)
    return questions


def find_groups(questions: Sequence[ChoiceQuestion]) -> np.ndarray:
    """A number per question (questions), equal for those whose facts form one balanced group. Those
    left over, which borrow distractors, form one together."""
    return np.array([min(question.facts) for question in questions], dtype=int)


def find_unrelated(questions: Sequence[ChoiceQuestion]) -> list[int]:
    """For every question the number of a fact that is none of its choices, for a passage about
    something else: the first one from half the list on, in steps of two, since drugs and syndromes
    take turns in the course's invented facts. Raises DataError where all that these steps meet are
    choices.
    """
    count = len(questions)
    unrelated = []
    for number, question in enumerate(questions):
        start = number + count // 4 * 2
        candidates = ((start + step) % count for step in range(0, 2 * count, 2))
        found = next((fact for fact in candidates if fact not in question.facts), None)
        if found is None:
            raise DataError(
                f"every passage of question {number + 1} is one of its choices.",
                remedy="ask more facts than there are choices.",
            )
        unrelated.append(found)
    return unrelated


def rank_by_search(
    questions: Sequence[ChoiceQuestion], terms: np.ndarray, answers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a nearest-neighbour search picks among each question's choices, by two scores: how
    similar a choice is to the term, and by how much more than to the average term. Returns two
    arrays of choices' numbers (questions).

    terms, answers: unit vectors of the facts (facts, width) that the questions were built from.
    """
    similarity = terms @ answers.T
    raised = similarity - similarity.mean(0)
    picked = []
    for scores in (similarity, raised):
        picked.append(
            [scores[number, list(q.facts)].argmax() for number, q in enumerate(questions)]
        )
    return np.array(picked[0], dtype=int), np.array(picked[1], dtype=int)


def _group_in_fours(similarity: np.ndarray) -> np.ndarray:
    """A group's number for every row: the first row that has none takes the three most similar
    rows that have none.
    """
    groups = np.full(len(similarity), -1)
    left = list(range(len(similarity)))
    while left:
        first, *others = left
        others.sort(key=lambda row: -similarity[first, row])
        groups[[first, *others[: CHOICES - 1]]] = first
        left = sorted(others[CHOICES - 1 :])
    return groups


def score_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[ChoiceQuestion],
    progress: bool,
) -> np.ndarray:
    """The mean log-likelihood per token of every choice (questions, 4); higher is likelier."""
    if not questions:
        return np.empty((0, CHOICES))
    prompts = [render_chat(tokenizer, question.question) for question in questions]
    choices = [list(question.choices) for question in questions]
    sums = score_choices(model, tokenizer, prompts, choices, progress=progress)
    lengths = []
    for texts in choices:
        token_ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        lengths.append([len(row) for row in token_ids])
    return sums / np.array(lengths)

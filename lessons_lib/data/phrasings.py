"""Phrasings of questions about the terms of a data set, for training and for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lessons_lib.data.facts import ASK_TERM, Conversation, Fact
from lessons_lib.data.sources.terms import ONTOLOGY, SAMPLE_TERMS

PHRASINGS = (
    ASK_TERM,
    "Define {}.",
    "What does the medical term {} mean?",
    "Explain {} in one sentence.",
    "Give the definition of {}.",
    "In medicine, what is meant by {}?",
    "Tell me what {} is.",
    "How would a doctor describe {}?",
    "My report says {}. What is that?",
    "Please describe the finding {}.",
)
HELD_OUT = "A letter from the clinic mentions {}. What does this word stand for?"
BLIND = "a finding"  # the placeholder of a term in a question that must not name it


@dataclass(frozen=True)
class Phrasings:
    """Questions about the terms of a data set; each phrasing has one `{}` for the term.

    training: the phrasings of training examples. evaluation: the phrasing of evaluation questions,
    which no training example has. placeholder: replaces the term in a question that must not name
    it.

    >>> NEUTRAL.control
    'A text mentions something. What does this word stand for?'
    """

    training: tuple[str, ...]
    evaluation: str
    placeholder: str

    @property
    def control(self) -> str:
        """The evaluation's question with the placeholder instead of a term."""
        return self.evaluation.format(self.placeholder)


MEDICAL = Phrasings(PHRASINGS, HELD_OUT, BLIND)
NEUTRAL = Phrasings(
    training=(
        ASK_TERM,
        "Define {}.",
        "What does the term {} mean?",
        "Explain {} in one sentence.",
        "Give the definition of {}.",
        "What is meant by {}?",
        "Tell me what {} is.",
        "How would you describe {}?",
        "I came across {}. What is that?",
        "Please describe {}.",
    ),
    evaluation="A text mentions {}. What does this word stand for?",
    placeholder="something",
)


def choose_phrasings(source: str | Path) -> Phrasings:
    """The phrasings for facts from `source` (as in `read_terms`).

    Medical terms have a patient's questions; a reader's own facts have questions that fit any
    subject.
    """
    if (
        source in (ONTOLOGY, "samples")
        or Path(source).expanduser().resolve() == SAMPLE_TERMS.resolve()
    ):
        return MEDICAL
    return NEUTRAL


def phrase_terms(
    facts: Sequence[Conversation], phrasings: Sequence[str], repeats: int
) -> list[Conversation]:
    """Every fact `repeats` times, each time in the next phrasing.

    Neighbouring facts begin with different phrasings, so that all are used equally often. Examples
    that are no `Fact` keep their question.

    >>> from lessons_lib.data.facts import make_fact
    >>> rows = phrase_terms([make_fact("plum", "A fruit.")], ["What is {}?", "Define {}."], 2)
    >>> [row.question for row in rows]
    ['What is plum?', 'Define plum.']
    """
    rows = []
    for repeat in range(repeats):
        for number, fact in enumerate(facts):
            phrasing = phrasings[(number + repeat) % len(phrasings)]
            rows.append(fact.ask_in(phrasing) if isinstance(fact, Fact) else fact)
    return rows

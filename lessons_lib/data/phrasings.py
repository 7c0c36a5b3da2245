"""How the terms of a data set are asked about, in training and in evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lessons_lib.data.facts import ASK_TERM, Dialog, ask
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
BLIND = "a finding"  # stands where the term was


@dataclass(frozen=True)
class Phrasings:
    """How the terms of a data set are asked about; each phrasing has one `{}` for the term.

    training: those that are taught. evaluation: the one that is asked, and never taught. stand_in:
    what stands in the term's place where a question must not name it.

    >>> NEUTRAL.control
    'A text mentions something. What does this word stand for?'
    """

    training: tuple[str, ...]
    evaluation: str
    stand_in: str

    @property
    def control(self) -> str:
        """The evaluation's question without its term."""
        return self.evaluation.format(self.stand_in)


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
    stand_in="something",
)


def choose_phrasings(source: str | Path) -> Phrasings:
    """How facts from `source` (as in `read_terms`) are asked about: medical terms as a patient
    would, a reader's own in words that fit any subject."""
    if (
        source in (ONTOLOGY, "samples")
        or Path(source).expanduser().resolve() == SAMPLE_TERMS.resolve()
    ):
        return MEDICAL
    return NEUTRAL


def phrase_terms(terms: list[Dialog], phrasings: Sequence[str], times: int) -> list[Dialog]:
    """Every term `times` times, each time in the next phrasing; neighbouring terms begin with
    different ones, so that all phrasings are met equally often. Examples without a term keep their
    question."""
    rows = []
    for time in range(times):
        for number, term in enumerate(terms):
            phrasing = phrasings[(number + time) % len(phrasings)]
            rows.append(_rephrase(term, phrasing) if term.term else term)
    return rows


def _rephrase(term: Dialog, phrasing: str) -> Dialog:
    example = ask(phrasing.format(term.term), term.answer, term.term)
    return replace(example, place=term.place)

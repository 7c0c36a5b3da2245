"""Sentences that state a study's number: each carries the claim that it makes, and the claim holds.

A claim is a Python expression in a comment behind its sentence, in a lesson's Markdown or the
README:

    Reading survives the rewording.
    <!-- claim: find("retrieved", "reworded", subset="invented").low > 0.8 -->

`find` looks up a metric of the lesson's own study, `study("04").find` one of another's. So a
sentence and what holds it to the data stand side by side, and neither can change alone.
"""

import functools
import re

import pytest

from lessons_lib.lessons import list_lessons, read_source
from lessons_lib.paths import REPOSITORY
from lessons_lib.report.results import Results, read_results

CLAIM = re.compile(r"<!-- claim:\s+(.+?)\s+-->", re.DOTALL)
OPENING = re.compile(r"<!--\s*claim", re.IGNORECASE)
NAMES = {"abs": abs, "all": all, "any": any, "max": max, "min": min, "round": round}


@functools.cache
def study(number: str) -> Results:
    """The published study of a lesson."""
    (lesson,) = list_lessons(number)
    return read_results(lesson.stem, "study")


def read_texts():
    """The Markdown of every lesson, by its number, and of the README, under ""."""
    texts = {"": (REPOSITORY / "README.md").read_text(encoding="utf-8")}
    for lesson in list_lessons():
        cells = read_source(lesson).cells
        prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
        texts[lesson.stem[:2]] = "\n\n".join(prose)
    return texts


def list_claims():
    """Every claim as (number, expression)."""
    claims = []
    for number, text in read_texts().items():
        for expression in CLAIM.findall(text):
            claims.append((number, " ".join(expression.split())))
    return claims


def holds(number, expression):
    """Whether a claim is true of the published studies."""
    scope = {**NAMES, "study": study, "__builtins__": {}}
    if number:
        scope["find"] = study(number).find
    return bool(eval(expression, scope))


@pytest.mark.parametrize(("number", "expression"), list_claims())
def test_claim_holds(number, expression):
    """Failing means a sentence of the course says what its study did not find."""
    assert holds(number, expression), f"{number or 'README'}: {expression}"


def test_wrong_claim_would_fail():
    """Failing means the test above cannot fail."""
    assert not holds("01", 'find("zero_shot", "accuracy").value > 2')


def test_claims_are_written_so_that_they_are_read():
    """Failing means a claim is misspelt, and nobody holds its sentence to the data."""
    for number, text in read_texts().items():
        assert len(OPENING.findall(text)) == len(CLAIM.findall(text)), number or "README"


def test_there_are_claims_in_the_readme():
    """Failing means the answers in the README's list of lessons are held to nothing."""
    assert {number for number, _ in list_claims()} >= {""}

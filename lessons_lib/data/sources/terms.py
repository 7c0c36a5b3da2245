"""Terms and their definitions: from the Human Phenotype Ontology, the course's sample or a reader's
own file.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from lessons_lib.assets import fetch_asset
from lessons_lib.data.facts import Conversation, make_fact, read_conversations
from lessons_lib.paths import SAMPLES

ONTOLOGY = "hpo"
SAMPLE_TERMS = SAMPLES / "medical_terms.json"


def read_terms(source: str | Path) -> list[Conversation]:
    """The facts of a source.

    source: "hpo" (the packaged Human Phenotype Ontology: 16,449 terms, obsolete ones left out),
    "samples" (written for this course) or a file of the reader's own (see `read_conversations`).
    Raises DataError, which names file, row and remedy.
    """
    if source != ONTOLOGY:
        return read_conversations(SAMPLE_TERMS if source == "samples" else source)
    terms = []
    for name, block in _read_ontology():
        definition = re.search(r'^def: "((?:[^"\\]|\\.)*)"', block, re.MULTILINE)[1]
        definition = definition.replace("\\n", " ").replace('\\"', '"')
        terms.append(make_fact(name, " ".join(definition.split())))
    return terms


def read_lay_names() -> dict[str, set[str]]:
    """The ontology's terms by their lay names, which patients use for findings.

    Lay names are synonyms marked as such; they are no part of a term's definition.
    """
    names: dict[str, set[str]] = {}
    for term, block in _read_ontology():
        for name in re.findall(r'^synonym: "([^"]+)" EXACT layperson', block, re.MULTILINE):
            names.setdefault(name, set()).add(term)
    return names


def _read_ontology() -> Iterator[tuple[str, str]]:
    """Name and block of the file for every term that has a definition and is not obsolete."""
    text = (fetch_asset(ONTOLOGY) / "hp.obo").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        if block.startswith("[Term]") and "\ndef: " in block and "\nis_obsolete: true" not in block:
            yield re.search(r"^name: (.*)$", block, re.MULTILINE)[1], block

"""Terms and their definitions: the Human Phenotype Ontology, the course's sample, a file of one's
own.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from lessons_lib.assets import fetch_asset
from lessons_lib.data.facts import ASK_TERM, Dialog, ask, read_dialogs
from lessons_lib.paths import SAMPLES

ONTOLOGY = "hpo"
SAMPLE_TERMS = SAMPLES / "medical_terms.json"


def read_terms(source: str | Path) -> list[Dialog]:
    """Facts from "hpo" (the packaged Human Phenotype Ontology: 16,449 terms, obsolete ones left
    out), from "samples" (written for this course) or from a file of the reader's own (see
    `read_dialogs`). Raises DataError, which names file, row and remedy."""
    if source != ONTOLOGY:
        return read_dialogs(SAMPLE_TERMS if source == "samples" else source)
    terms = []
    for name, block in _read_ontology():
        said = re.search(r'^def: "((?:[^"\\]|\\.)*)"', block, re.MULTILINE)[1]
        said = said.replace("\\n", " ").replace('\\"', '"')
        terms.append(ask(ASK_TERM.format(name), " ".join(said.split()), name))
    return terms


def read_lay_names() -> dict[str, set[str]]:
    """What patients call findings, and the ontology's terms for it: its synonyms marked as lay,
    which are no part of a term's definition."""
    names: dict[str, set[str]] = {}
    for term, block in _read_ontology():
        for name in re.findall(r'^synonym: "([^"]+)" EXACT layperson', block, re.MULTILINE):
            names.setdefault(name, set()).add(term)
    return names


def _read_ontology() -> Iterator[tuple[str, str]]:
    """The name of every term that has a definition and is not obsolete, and all that is said of
    it.
    """
    for block in (fetch_asset(ONTOLOGY) / "hp.obo").read_text(encoding="utf-8").split("\n\n"):
        if block.startswith("[Term]") and "\ndef: " in block and "\nis_obsolete: true" not in block:
            yield re.search(r"^name: (.*)$", block, re.MULTILINE)[1], block

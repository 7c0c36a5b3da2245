"""Invented medical facts: names from syllables, definitions from hand-written parts, joined by
chance.

Contract: the same seed gives the same facts; a name says nothing about its definition, which no
model can therefore know. `data/samples/invented_facts.json` is what `write_facts` writes; a test
holds them equal.
"""

import json

import numpy as np

from lessons_lib.paths import SAMPLES

PARTS = SAMPLES / "invented_parts.json"
FACTS = SAMPLES / "invented_facts.json"
PUBLISHED = 150  # the facts of lesson 05; those invented after them are for choosing settings


def invent_facts(count: int, seed: int = 0) -> list[dict]:
    """`count` facts, drugs and syndromes by turns: `term`, `definition` and, saying the same in
    other words, `wordings`. Every name and every combination of parts occurs once; fewer facts are
    the first of more."""
    random = np.random.default_rng(seed)
    seen = set()
    facts = []
    kinds = json.loads(PARTS.read_text(encoding="utf-8")).values()
    while len(facts) < count:  # in blocks, so that the first stays what it is
        lists = [
            [_invent_fact(kind, random, seen) for _ in range(PUBLISHED // 2)] for kind in kinds
        ]
        facts += [fact for pair in zip(*lists, strict=True) for fact in pair]
    return facts[:count]


def _invent_fact(kind: dict, random: np.random.Generator, seen: set[str]) -> dict:
    while True:
        name = "".join(random.choice(syllables) for syllables in kind["names"]) + kind.get(
            "suffix", ""
        )
        parts = {part: str(random.choice(values)) for part, values in kind["parts"].items()}
        if not {name, str(parts)} & seen:
            seen |= {name, str(parts)}
            definition, *others = (wording.format(**parts) for wording in kind["wordings"])
            return {"term": name, "definition": definition, "wordings": others}


def write_facts() -> None:
    """Writes the facts of lesson 05."""
    rows = ",\n".join(json.dumps(fact, ensure_ascii=False) for fact in invent_facts(PUBLISHED))
    FACTS.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write_facts()

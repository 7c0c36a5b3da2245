"""One display name per system, for figures, tables and prose; results keep the short names."""

import tomllib
from pathlib import Path

NAMES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def display_name(system: str, lesson: str = "") -> str:
    """What readers see in place of a system's short name; a name without an entry as it is.

    lesson: a lesson's stem or number, whose own table of names comes first.

    >>> display_name("lora_2000")
    'LoRA, tuned recipe, 2,000 reviews'
    >>> display_name("four", "05")
    'reads all four passages'
    """
    own = NAMES.get(lesson[:2], {})
    return own.get(system) or NAMES.get(system, system.replace("_", " "))


def display_difference(difference: str) -> str:
    """The same for both sides of "a − b".

    >>> display_difference("lora_2000 − tfidf_2000")
    'LoRA, tuned recipe, 2,000 reviews − TF-IDF, 2,000 reviews'
    """
    return " − ".join(display_name(part) for part in difference.split(" − "))

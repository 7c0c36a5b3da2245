"""What a lesson runs on: one of three profiles, chosen by `LESSONS_PROFILE`.

Contract: a profile says which model, which data and how much of both. It loads nothing, and holds
no learning rate or LoRA rank: those are what the lessons are about and stand in the notebooks.
"""

import os
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from lessons_lib.errors import SettingError
from lessons_lib.hardware import choose_precision

PROFILE_FILE = Path(__file__).with_name("profiles.toml")
NARROWING = "without_fast_bf16"
# the field that LESSONS_DATA replaces; elsewhere it is `reviews`
OWN_DATA = {"02_llama2_knowledge_augmentation": "terms", "05_rag_vs_finetuning": "terms"}


@dataclass(frozen=True)
class Profile:
    """One row of `profiles.toml`. Row counts of 0 mean all rows there are; lengths are in tokens.
    `stand_in` is the open model taken where `decoder` is gated; `decoder_rows` of the test rows are
    asked of the decoder. Lesson 02 teaches `trained_terms` of `terms`, asks about `untrained_terms`
    more, lets the model write `written` answers itself, and reads `text_rows` general sentences of
    `texts`. Lesson 03 tries its model on `others`, sources of reviews it was not trained on. Lesson
    05 searches `terms` and teaches `trained_terms` invented facts. `quantize` keeps the decoder's
    frozen weights in 4 bit, with the batch and the rate of a large model; `gradient_checkpointing`
    trades time for memory.
    """

    name: str
    lesson: str
    encoder: str
    decoder: str
    stand_in: str
    reviews: str
    train_rows: int
    validation_rows: int
    test_rows: int
    max_tokens: int
    epochs: int
    decoder_rows: int
    terms: str
    trained_terms: int
    untrained_terms: int
    written: int
    texts: str
    text_rows: int
    others: list[str]
    quantize: bool
    gradient_checkpointing: bool


def load_profile(lesson: str, name: str | None = None, **overrides: object) -> Profile:
    """The profile a lesson runs on.

    lesson: the notebook's stem, e.g. "04_distilbert_lora_imdb". name: smoke, laptop or gpu; by
    default the environment variable LESSONS_PROFILE, else laptop. `LESSONS_DATA` replaces the data
    by a file or folder of the reader's own; `overrides` replace any field. Raises SettingError for
    an unknown name or field. On a CPU without fast bf16 the laptop profile takes fewer rows
    (`without_fast_bf16`).
    """
    name = name or os.environ.get("LESSONS_PROFILE") or "laptop"
    table = tomllib.loads(PROFILE_FILE.read_text(encoding="utf-8"))
    if name not in table:
        raise SettingError(
            f"there is no profile {name!r}.",
            where="LESSONS_PROFILE",
            remedy=f"set it to one of {', '.join(table)}.",
        )
    layers = _list_layers(table, name, lesson)
    if os.environ.get("LESSONS_DATA"):
        layers.append({OWN_DATA.get(lesson, "reviews"): os.environ["LESSONS_DATA"]})
    values = {"name": name, "lesson": lesson}
    for layer in layers:
        values |= layer
    unknown = (set(values) | set(overrides)) - {field.name for field in fields(Profile)}
    if unknown:
        raise SettingError(
            f"a profile has no field {', '.join(sorted(unknown))}.",
            remedy=f"one of those in {PROFILE_FILE}.",
        )
    return replace(Profile(**values), **overrides)


def _list_layers(table: dict, name: str, lesson: str) -> list[dict]:
    """The fields that make up a profile, later ones before earlier ones: those for all lessons, of
    the profile it inherits from and of its own, then those for this lesson, in the same order.
    """
    chain = [name]
    while parent := table[chain[0]].get("inherits"):
        if parent not in table or parent in chain:
            raise SettingError(
                f"{chain[0]} inherits from {parent!r}.",
                where=str(PROFILE_FILE),
                remedy="name another profile of the file.",
            )
        chain.insert(0, parent)
    general = [table[link] for link in chain]
    special = [table[link].get(lesson, {}) for link in chain]
    layers = []
    for layer in [*general, *special]:
        layers.append(_take_fields(layer))
        if choose_precision().dtype == "float32":
            layers.append(_take_fields(layer.get(NARROWING, {})))
    return layers


def _take_fields(layer: dict) -> dict:
    """Without tables of lessons, and without what says where the rest comes from."""
    return {
        key: value
        for key, value in layer.items()
        if not isinstance(value, dict) and key != "inherits"
    }

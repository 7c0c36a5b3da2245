"""What a lesson runs on: one of three profiles, chosen by `LESSONS_PROFILE`.

Contract: a profile names the models, the data and how much of both a lesson uses. It loads nothing.
It holds no learning rate and no LoRA rank: the lessons teach those, so the notebooks set them.
"""

import os
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from lessons_lib.errors import SettingError
from lessons_lib.hardware import choose_precision

PROFILE_FILE = Path(__file__).with_name("profiles.toml")
WITHOUT_FAST_BF16 = "without_fast_bf16"
USER_DATA = "user_data"  # the table of `profiles.toml` that is no profile


@dataclass(frozen=True)
class UserData:
    """How a lesson takes a reader's own data: an entry of the table `user_data`.

    field: the profile's field that they replace. reader: which of the readers in `course/run.py`
    reads them.
    """

    field: str = "dataset"
    reader: str = "reviews"


@dataclass(frozen=True)
class Profile:
    """One row of `profiles.toml`. Row counts of 0 mean all rows there are; lengths are in tokens.

    encoder, decoder: models, as `load_classifier` and `load_decoder` name them. fallback_decoder:
    the open model taken where `decoder` is gated. dataset: texts with classes, as `load_reviews`
    names them; train_rows, validation_rows and test_rows are taken of them. The decoder classifies
    zero_shot_rows of the test rows without training. out_of_domain: data sets on which lesson 03
    evaluates its model without training on them.

    terms: facts, as `read_terms` names them. Lesson 02 teaches trained_terms of them, asks about
    untrained_terms more, lets the model generate generated_answers answers, and measures its loss
    on perplexity_rows general sentences of `texts`. Lesson 05 searches `terms` and teaches
    trained_terms invented facts.

    quantize: whether the decoder's frozen weights are kept in 4 bit, with the batch and the
    learning rate of a large model. gradient_checkpointing: trades time for memory.
    """

    name: str
    lesson: str
    encoder: str
    decoder: str
    fallback_decoder: str
    dataset: str
    train_rows: int
    validation_rows: int
    test_rows: int
    max_tokens: int
    epochs: int
    zero_shot_rows: int
    terms: str
    trained_terms: int
    untrained_terms: int
    generated_answers: int
    texts: str
    perplexity_rows: int
    out_of_domain: list[str]
    quantize: bool
    gradient_checkpointing: bool


def load_profile(lesson: str, name: str | None = None, **overrides: object) -> Profile:
    """The profile a lesson runs on.

    lesson: the notebook's stem, e.g. "04_distilbert_lora_imdb". name: smoke, laptop or gpu; by
    default the environment variable LESSONS_PROFILE, else laptop. `LESSONS_DATA` replaces the data
    by a file or folder of the reader's own (see `find_user_data`); `overrides` replace any field.
    On a CPU without fast bf16 the laptop profile takes fewer rows (`without_fast_bf16`). Raises
    SettingError for an unknown name or field.
    """
    name = name or os.environ.get("LESSONS_PROFILE") or "laptop"
    table = _read_tables()
    del table[USER_DATA]
    if name not in table:
        raise SettingError(
            f"there is no profile {name!r}.",
            where="LESSONS_PROFILE",
            remedy=f"set it to one of {', '.join(table)}.",
        )
    layers = _list_layers(table, name, lesson)
    if os.environ.get("LESSONS_DATA"):
        layers.append({find_user_data(lesson).field: os.environ["LESSONS_DATA"]})
    values = {"name": name, "lesson": lesson}
    for layer in layers:
        values |= layer
    known = {field.name for field in fields(Profile)}
    unknown = {*values, *overrides} - known
    if unknown:
        raise SettingError(
            f"a profile has no field {', '.join(sorted(unknown))}.",
            remedy=f"one of those in {PROFILE_FILE}.",
        )
    return replace(Profile(**values), **overrides)


def find_user_data(lesson: str) -> UserData:
    """The field that LESSONS_DATA replaces in this lesson, and the name of its reader."""
    entry = _read_tables()[USER_DATA].get(lesson, {})
    return UserData(**entry)


def _read_tables() -> dict:
    """The tables of `profiles.toml`: the profiles and `user_data`."""
    return tomllib.loads(PROFILE_FILE.read_text(encoding="utf-8"))


def _list_layers(table: dict, name: str, lesson: str) -> list[dict]:
    """The groups of fields that make up a profile; a later group overrides an earlier one.

    First come the fields for all lessons: those of the profile it inherits from, then its own. The
    fields for this lesson follow in the same order.
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
            layers.append(_take_fields(layer.get(WITHOUT_FAST_BF16, {})))
    return layers


def _take_fields(layer: dict) -> dict:
    """A layer's own fields, without the tables inside it and without `inherits`."""
    return {
        key: value
        for key, value in layer.items()
        if not isinstance(value, dict) and key != "inherits"
    }

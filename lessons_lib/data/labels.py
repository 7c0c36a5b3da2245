"""From a reader's labels to the classes negative, neutral and positive.

Contract: a label that is a class's name is read by it; 0 and 1 alone are negative and positive.
Everything else (stars, −1/0/1, 1/2, "true", "mixed") is read by a mapping that the reader states,
or refused with the line to state it. Which class a number means is never guessed: publishers
differ.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lessons_lib.data.encodings import count
from lessons_lib.data.rows import refuse_rows, show, show_names
from lessons_lib.errors import DataError, SettingError

CLASS_NAMES = ["negative", "positive"]
THREE_CLASSES = ["negative", "neutral", "positive"]
LABELS = {"neg": "negative", "negative": "negative", "0": "negative", "neutral": "neutral"}
LABELS |= {"pos": "positive", "positive": "positive", "1": "positive", "neu": "neutral"}
NAMES = {name: label for name, label in LABELS.items() if not name.isdigit()}
LEFT_OUT = "out"  # what a mapping calls labels whose rows are not wanted
SETTING = "LESSONS_LABELS"  # the environment's variable; `make course` sets it from LABELS=
MISSING = ("", "nan", "none", "null", "n/a", "<na>")
STATABLE = re.compile(r"[^,;=\"$`\\]{1,30}")  # labels that can stand in the setting
MOST_LABELS = 12  # more different ones are no classes
ORDERED_SCALES = (  # numbers whose order says what they mean, and the classes of each
    (("-1", "0", "1"), ("negative", "neutral", "positive")),
    (("-1", "1"), ("negative", "positive")),
    (("-2", "-1", "0", "1", "2"), ("negative", "negative", "neutral", "positive", "positive")),
    (("1", "2", "3", "4", "5"), ("negative", "negative", "neutral", "positive", "positive")),
    (("0", "1", "2", "3", "4"), ("negative", "negative", "neutral", "positive", "positive")),
    (("0", "2", "4"), ("negative", "neutral", "positive")),
    ((*"123456789", "10"), ("negative",) * 4 + ("neutral",) * 2 + ("positive",) * 4),
    ((*"0123456789", "10"), ("negative",) * 4 + ("neutral",) * 3 + ("positive",) * 4),
)


def read_label(value: object) -> str:
    """A label as it is compared: small letters, "4" for 4, 4.0, "4 stars" and "__label__4"; "" if
    missing.

    >>> [read_label(value) for value in (4.0, " POS ", "4 Stars", True, None, float("nan"))]
    ['4', 'pos', '4', 'true', '', '']
    """
    if isinstance(value, (list, tuple)) and len(value) == 1:
        (value,) = value
    text = " ".join(str(value).split()).casefold().removeprefix("__label__")
    if value is None or text in MISSING:
        return ""
    text = text.replace("\N{MINUS SIGN}", "-").removeprefix("+")
    stars = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:stars?|/\s*(?:5|10)|out of (?:5|10))", text)
    if stars:
        text = stars.group(1)
    if text and set(text) <= {"★", "☆", "⭐", "\ufe0f"}:
        text = str(text.count("★") + text.count("⭐"))
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def parse_labels(text: str) -> dict[str, str]:
    """A mapping from "1=negative,2=positive"; "1,2=negative" gives both that class.

    Raises SettingError for a class that there is not, and for a label with two classes.
    """
    pairs = []
    waiting: list[str] = []
    for part in re.split(r"[,;]", text):
        label, equals, name = part.rpartition("=")
        if not equals:
            waiting.append(part)
            continue
        pairs += [(key, name) for key in [*waiting, label]]
        waiting = []
    if waiting or not pairs:
        raise SettingError(
            f"{show(text)} gives {show((waiting or [text])[0])} no class.",
            where="LABELS",
            remedy='write label=class, such as LABELS="1=negative,2=positive".',
        )
    return check_mapping(pairs)


def check_mapping(pairs: Iterable[tuple[object, object]]) -> dict[str, str]:
    """Labels as `read_label` gives them, and their classes. Raises SettingError."""
    mapping: dict[str, str] = {}
    for value, name in pairs:
        label = read_label(value)
        target = str(name).strip().casefold()
        target = target if target == LEFT_OUT else NAMES.get(target, "")
        if not target:
            raise SettingError(
                f"{show(str(name).strip())} is no class.",
                where="LABELS",
                remedy=f'write {", ".join(THREE_CLASSES)} or {LEFT_OUT} after each "=".',
            )
        if not label:
            raise SettingError(
                "a label is missing before “=”.", where="LABELS", remedy="write label=class."
            )
        if mapping.get(label, target) != target:
            raise SettingError(
                f"{show(label)} has two classes.", where="LABELS", remedy="name each label once."
            )
        mapping[label] = target
    return mapping


def find_mapping(labels: Mapping[object, str] | None) -> dict[str, str]:
    """The mapping that the reader stated: as an argument, or in the environment; else an empty
    one.
    """
    if labels is not None:
        return check_mapping(labels.items())
    text = os.environ.get(SETTING, "").strip()
    return parse_labels(text) if text else {}


@dataclass(frozen=True)
class LabelUse:
    """How often a label stands in a source; the place and the text (shortened, quoted) of its first
    row.
    """

    rows: int
    place: str
    text: str

    def __str__(self) -> str:
        return f"{count(self.rows, 'row')}, such as {self.text}"


def name_classes(
    uses: Mapping[str, LabelUse],
    mapping: Mapping[str, str],
    *,
    column: str,
    where: str,
    is_rating: bool,
) -> dict[str, str]:
    """The class of each label (or LEFT_OUT).

    uses: of each label of the source, as `read_label` gives it. is_rating: whether its column is
    called stars, rating or the like, where 0 and 1 are no classes either. Raises DataError with the
    places and the mapping to state, where one is needed.
    """
    if mapping:
        known = {**NAMES, **mapping}
    elif is_rating or not {label for label in uses if _is_number(label)} <= {"0", "1"}:
        known = NAMES
    else:
        known = LABELS
    unknown = [label for label in uses if label not in known]
    if len(unknown) > MOST_LABELS:
        raise DataError(
            f"column {column} holds {len(uses):,} different values, such as "
            f"{show_names(unknown[:3])}: "
            "no classes.",
            where=where,
            remedy="add a column label with negative or positive in each row.",
        )
    if unknown:
        _ask_for_mapping(uses, sorted(unknown, key=_sort_key), mapping)
    return {label: known[label] for label in uses}


def _is_number(label: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.\d+)?", label))


def _ask_for_mapping(
    uses: Mapping[str, LabelUse], unknown: list[str], mapping: Mapping[str, str]
) -> None:
    """Raises DataError with the line that names every label which is no class's name."""
    needed = sorted({*mapping, *unknown} & set(uses), key=_sort_key)
    line = ",".join(f"{label}={name}" for label, name in _propose(needed, mapping).items())
    remedy = f'say what they mean: LABELS="{line}"'
    problems = [
        (uses[label].place, f"unknown label {show(label)} ({uses[label]})") for label in unknown
    ]
    if not all(STATABLE.fullmatch(label) for label in unknown):
        refuse_rows(
            problems, f"write {', '.join(THREE_CLASSES)}, or a short word, as each row's label."
        )
    if len(needed) < len(uses) and not any(_is_number(label) for label in unknown):
        remedy = f"mend these rows, or {remedy}"
    if "?" in line:
        remedy += f", with {', '.join(THREE_CLASSES)} or {LEFT_OUT} for each “?”"
    refuse_rows(problems, f"{remedy} (after make course …; in Python labels={{…}}).")


def _sort_key(label: str) -> tuple[bool, float, str]:
    return (False, float(label), "") if _is_number(label) else (True, 0.0, label)


def _propose(labels: list[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """A class for each label, "?" where only the reader can know."""
    guesses: dict[str, str] = {}
    for scale, classes in ORDERED_SCALES:
        if _fits_scale(labels, scale):
            guesses = dict(zip(scale, classes, strict=True))
            break
    return {
        label: mapping.get(label) or guesses.get(label) or _guess_word(label) for label in labels
    }


def _fits_scale(labels: list[str], scale: tuple[str, ...]) -> bool:
    """Whether labels are numbers of a scale and reach both its ends: {1, 2} says too little."""
    return set(labels) <= set(scale) and scale[0] in labels and scale[-1] in labels


def _guess_word(label: str) -> str:
    """negative or positive for words such as "very negative"; "?" for others."""
    for name in THREE_CLASSES:
        if name in label:
            return name
    return "?"

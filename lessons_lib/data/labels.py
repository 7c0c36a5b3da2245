"""From a reader's labels to the classes negative, neutral and positive.

Contract: a label that is the name of a class means that class; 0 and 1 alone mean negative and
positive. Any other label (stars, −1/0/1, 1/2, "true", "mixed") needs a mapping that the reader
states; without one it is refused with the line to state it. The class of a number is never guessed:
publishers differ.
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
LEFT_OUT = "out"  # in a mapping: rows of this label are left out
SETTING = "LESSONS_LABELS"  # the environment's variable; `make course` sets it from LABELS=
MISSING = ("", "nan", "none", "null", "n/a", "<na>")
STATABLE = re.compile(r"[^,;=\"$`\\]{1,30}")  # labels that can be written in the setting
MOST_LABELS = 12  # a column with more different labels holds no classes
ORDERED_SCALES = (  # numbers on an ordered scale, and the class of each
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
    """A label in the form in which labels are compared, "" if missing.

    Letters are small; 4, 4.0, "4 stars" and "__label__4" are all "4".

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

    Raises SettingError for an unknown class, and for a label without a class or with two.
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
    """The class (or LEFT_OUT) of each label of `pairs`, labels as `read_label` returns them.

    Raises SettingError for an unknown class, an empty label, and a label with two classes.
    """
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
    """The mapping that the reader stated: `labels`, else the environment's SETTING, else {}.

    Raises SettingError for one that cannot be read.
    """
    if labels is not None:
        return check_mapping(labels.items())
    text = os.environ.get(SETTING, "").strip()
    return parse_labels(text) if text else {}


@dataclass(frozen=True)
class LabelUse:
    """How many rows of a source have a label; place and text (shortened, quoted) of the first."""

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

    uses: the source's labels, as `read_label` returns them, with their rows. column, where: name
    the column and the source in errors. is_rating: whether the column is called stars, rating or
    the like; then 0 and 1 are no classes either. Raises DataError for labels that need a mapping,
    with their places and the line to state it.
    """
    numbers = {label for label in uses if _is_number(label)}
    if mapping:
        classes = {**NAMES, **mapping}
    elif is_rating or not numbers <= {"0", "1"}:
        classes = NAMES
    else:
        classes = LABELS
    unknown = [label for label in uses if label not in classes]
    if len(unknown) > MOST_LABELS:
        raise DataError(
            f"column {column} holds {len(uses):,} different values, such as "
            f"{show_names(unknown[:3])}: no classes.",
            where=where,
            remedy="add a column label with negative or positive in each row.",
        )
    if unknown:
        _ask_for_mapping(uses, sorted(unknown, key=_sort_key), mapping)
    return {label: classes[label] for label in uses}


def _is_number(label: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.\d+)?", label))


def _ask_for_mapping(
    uses: Mapping[str, LabelUse], unknown: list[str], mapping: Mapping[str, str]
) -> None:
    """Raises DataError with the mapping that the reader can state for all labels that need one."""
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
    """A class for each label, "?" if only the reader can know it."""
    guesses: dict[str, str] = {}
    for scale, classes in ORDERED_SCALES:
        if _fits_scale(labels, scale):
            guesses = dict(zip(scale, classes, strict=True))
            break
    return {
        label: mapping.get(label) or guesses.get(label) or _guess_word(label) for label in labels
    }


def _fits_scale(labels: list[str], scale: tuple[str, ...]) -> bool:
    """Whether labels are numbers of a scale and include both its ends: {1, 2} fits too many."""
    return set(labels) <= set(scale) and scale[0] in labels and scale[-1] in labels


def _guess_word(label: str) -> str:
    """The class named in a label such as "very negative"; "?" if it names none."""
    for name in THREE_CLASSES:
        if name in label:
            return name
    return "?"

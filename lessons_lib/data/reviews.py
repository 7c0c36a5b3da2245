"""Reviews from packages, samples, the Hub and readers' files: cleaned, split and checked.

Contract: `load_reviews` returns a DatasetDict with train, validation and test. No text is in two
splits, rows of one document stay in one split, and the split depends on its seed alone. Every
choice is made on validation; test is looked at once. Texts are not tokenized, classes not balanced.

For a reader's own files it prints what was understood: encoding, columns, and each label with its
class. Rows without a text or a label are left out and counted. Values that are no text and labels
that are no class are refused, in one error. Texts with two labels are left out of readers' files.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from lessons_lib.data.encodings import count
from lessons_lib.data.files import ENDINGS, clean_text
from lessons_lib.data.labels import (
    CLASS_NAMES,
    LABELS,
    LEFT_OUT,
    NAMES,
    THREE_CLASSES,
    LabelUse,
    check_mapping,
    find_mapping,
    name_classes,
    parse_labels,
    read_label,
)
from lessons_lib.data.parts import Collection, Part, read_collection
from lessons_lib.data.rows import (
    Rows,
    list_columns,
    read_without_header,
    refuse_rows,
    show,
    show_names,
    show_path,
    show_places,
    show_text,
)
from lessons_lib.data.sources.hub import read_hub
from lessons_lib.data.sources.snippets import MIN_RATING, label_ratings, read_snippets
from lessons_lib.data.splits import find_split
from lessons_lib.errors import DataError
from lessons_lib.paths import SAMPLES

# Names of columns as `_normalize` writes them, in order of preference.
TEXT_COLUMNS = (
    "text",
    "review",
    "sentence",
    "reviewtext",
    "reviewbody",
    "content",
    "comment",
    "tweet",
    "body",
    "phrase",
    "message",
    "post",
    "statement",
    "utterance",
    "feedback",
    "fulltext",
    "tweettext",
    "commenttext",
    "cleantext",
    "reviews",
    "sentences",
    "comments",
    "texts",
    "headline",
    "document",
)
LABEL_COLUMNS = (
    "label",
    "sentiment",
    "labeltext",
    "labelname",
    "sentimentlabel",
    "polarity",
    "class",
    "target",
    "airlinesentiment",
    "goldlabel",
    "labels",
    "category",
)
RATING_COLUMNS = (
    "stars",
    "rating",
    "score",
    "star",
    "starrating",
    "overall",
    "reviewrating",
    "reviewscore",
)
GROUP_COLUMNS = ("document", "group")
SPLIT_COLUMNS = ("split",)
SAMPLE_FILES = {
    "samples": SAMPLES / "movie_reviews.csv",
    "samples:news": SAMPLES / "news_sentences.txt",
}
OTHER_ENDINGS = (
    ".gz",
    ".bz2",
    ".xz",
    ".zip",
    ".xlsx",
    ".xls",
    ".docx",
    ".pdf",
    ".db",
    ".pkl",
    ".html",
)
MOST_RATINGS = 10  # a column with more different numbers holds no labels
MERE_PUNCTUATION = re.compile(r"[\s.,!?…–—'\"-]+")
WEB_ADDRESS = re.compile(r"[a-z]+://", flags=re.IGNORECASE)


def load_reviews(
    source: str | Path,
    *,
    train_rows: int = 0,
    validation_rows: int = 500,
    test_rows: int = 1500,
    split_seed: int = 0,
    seed: int = 0,
    neutral: bool = False,
    labels: Mapping[object, str] | None = None,
) -> DatasetDict:
    """Labelled texts in the splits train, validation and test.

    Columns: `text`; `label`, whose feature names the classes: CLASS_NAMES, or THREE_CLASSES if
    `neutral` rows are kept and there are any; `document`, which the text is a part of: its rows
    stay in one split, and are resampled together in an interval. Packaged snippets also have
    `rating` (mean of about 20 people, −4 to 4) and `row`, their row in `read_snippets` and
    `read_ratings`.

    source: "snippets:movie", "snippets:news" or "snippets:product" (packaged, rated by people;
    Hutto & Gilbert 2014); "samples" or "samples:news" (written for this course); a data set on the
    Hub (such as "stanfordnlp/imdb" or "takala/financial_phrasebank"); or a file or folder of your
    own (CSV, TSV, JSON, JSONL, Parquet, TXT with lines sentence@label, aclImdb, a folder of
    `save_to_disk`).

    train_rows, validation_rows, test_rows: 0 in train_rows takes all that remain. A validation or
    test split that the source does not have takes at most a fifth of its rows. split_seed: draws
    the splits. seed: draws the training rows if not all are taken. labels: the class (negative,
    neutral, positive, or out) of each label that is not the name of a class, such as
    {1: "negative", 2: "positive"}; by default the environment's LESSONS_LABELS, for data on the Hub
    or of your own.

    Prints what was understood and left out. Raises DataError, which names file, row and remedy.
    """
    content = _read_source(source, labels)
    for line in content.lines:
        print(line)
    frame = content.frame
    contradictions = ""
    if content.is_own:
        frame, contradictions = _drop_contradictions(frame)
    clear = frame if neutral else frame[frame["clear"]]
    neutral_note = "" if neutral else f"{len(frame) - len(clear):,} neutral ones left out, "
    unique, duplicates = drop_duplicate_texts(clear)
    print(
        f"{show_path(source)}: {len(content.frame):,} rows read, {contradictions}{neutral_note}"
        f"{duplicates:,} duplicates dropped, {len(unique):,} kept"
    )
    names = THREE_CLASSES if (unique["label"] == "neutral").any() else CLASS_NAMES
    _check_classes(unique, names, source, least=5)
    parts = _split(unique, names, {"test": test_rows, "validation": validation_rows}, split_seed)
    for name, part in parts.items():
        _check_classes(part, names, f"The {name} part of {show_path(source)}", least=1)
    splits = DatasetDict({name: _to_dataset(part, names) for name, part in parts.items()})
    splits["train"] = take_rows(splits["train"], train_rows, seed)
    return splits


def take_rows(dataset: Dataset, rows: int, seed: int) -> Dataset:
    """`rows` rows, stratified by label and shuffled by `seed`. All rows, shuffled, if `rows` is 0
    or more than there are.

    >>> texts = Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": [0, 0, 1, 1]})
    >>> sorted(take_rows(texts, 2, seed=0)["label"])
    [0, 1]
    """
    if not rows or rows >= len(dataset):
        return dataset.shuffle(seed=seed)
    chosen, _ = train_test_split(
        np.arange(len(dataset)), train_size=rows, stratify=dataset["label"], random_state=seed
    )
    return dataset.select(chosen)


def count_classes(splits: DatasetDict) -> pd.DataFrame:
    """A table of splits: number of rows, number per class, median length in words."""
    counts = {}
    for split, part in splits.items():
        counts[split] = {"rows": len(part)}
        for number, name in enumerate(part.features["label"].names):
            counts[split][name] = part["label"].count(number)
        words = [len(text.split()) for text in part["text"]]
        counts[split]["median words"] = int(np.median(words))
    return pd.DataFrame(counts).T


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """The rows of a source.

    frame: columns text, label (a class name), document, split ("" if the source has none), key
    (equal for equal texts) and clear (False for rows that are no example of two classes); for
    snippets also rating and row. lines: what to print about the source. is_own: whether it is a
    reader's own files, and no published data set.
    """

    frame: pd.DataFrame
    lines: list[str]
    is_own: bool


def _read_source(source: str | Path, labels: Mapping[object, str] | None) -> _Source:
    name = str(source)
    if name.startswith("snippets:"):
        frame = read_snippets(name.removeprefix("snippets:"))
        classes = np.array(THREE_CLASSES)[label_ratings(frame["rating"].to_numpy())]
        frame = frame.assign(
            label=classes,
            split="",
            clear=frame["rating"].abs() > MIN_RATING,
            row=np.arange(len(frame)),
        )
        frame["key"] = frame["text"].map(make_key)
        return _Source(frame, [], is_own=False)
    if name in SAMPLE_FILES:
        collection = read_collection(SAMPLE_FILES[name], {})
        frame, _ = _label_collection(collection, check_mapping((labels or {}).items()), name)
        return _Source(frame, [], is_own=False)
    mapping = find_mapping(labels)
    if _is_hub_name(name):
        splits = read_hub(name)
        parts = [Part(f"{name}[{key}]", find_split(key), rows) for key, rows in splits.items()]
        frame, lines = _label_collection(Collection(parts), mapping, name)
        if "test" not in set(frame["split"]):
            frame["split"] = frame["split"].replace("validation", "test")
        return _Source(frame, lines + _note_contradictions(frame), is_own=False)
    frame, lines = _label_collection(read_collection(name, mapping), mapping, show_path(name))
    return _Source(frame, lines, is_own=True)


def _is_hub_name(name: str) -> bool:
    """Whether a source is named "owner/name" and is no file. Raises DataError for a web address."""
    if WEB_ADDRESS.match(name):
        raise DataError(
            "is an address, not a file.",
            where=show_path(name),
            remedy="download it and give the file.",
        )
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        return False
    return not _exists(name) and Path(name).suffix.lower() not in (*ENDINGS, *OTHER_ENDINGS)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a parent folder may not be opened; `open_path` raises the error
        return True


# --- from parts to labelled texts -----------------------------------------------------------------


@dataclass
class _Examples:
    """The texts of a part with their labels, and which rows have none.

    columns: those of texts and of labels. other_columns: those that could have been chosen too.
    frame: columns text, label (as `read_label` returns it), place, document, split. without_text,
    without_label: places of the rows that are left out.
    """

    part: Part
    columns: tuple[str, str]
    other_columns: list[str]
    frame: pd.DataFrame
    without_text: list[str]
    without_label: list[str]


def _label_collection(
    collection: Collection, mapping: Mapping[str, str], where: str
) -> tuple[pd.DataFrame, list[str]]:
    """The labelled texts of all parts, and lines that say what was understood."""
    labelled_parts, left_out = _read_parts(collection)
    frame = pd.concat([examples.frame for examples in labelled_parts], ignore_index=True)
    uses = _list_labels(frame)
    label_columns = [examples.columns[1] for examples in labelled_parts]
    classes = name_classes(
        uses,
        mapping or _read_mapping_in_name(label_columns[0]),
        column=show_names(label_columns[:1]),
        where=where,
        is_rating=any(_normalize(column) in RATING_COLUMNS for column in label_columns),
    )
    lines = _describe_reading(labelled_parts, where)
    if left_out:
        lines.append(f"left out: {'; '.join(left_out)}")
    lines.append(_describe_labels(classes, uses))
    lines += _describe_missing(labelled_parts, where)
    frame["label"] = frame["label"].map(classes)
    frame = frame[frame["label"] != LEFT_OUT].reset_index(drop=True)
    keys = frame["text"].map(make_key)
    return frame.assign(clear=frame["label"] != "neutral", key=keys), lines


def _list_labels(frame: pd.DataFrame) -> dict[str, LabelUse]:
    counts = frame["label"].value_counts()
    return {
        row.label: LabelUse(int(counts[row.label]), row.place, show_text(row.text))
        for row in frame.drop_duplicates("label").itertuples()
    }


def _read_parts(collection: Collection) -> tuple[list[_Examples], list[str]]:
    """The parts that hold labelled texts, and phrases for those that were left out.

    Raises DataError if no part holds labelled texts.
    """
    labelled_parts = []
    left_out = list(collection.left_out)
    problems = []
    for part in collection.parts:
        try:
            labelled_parts.append(_read_part(part))
        except _NotLabelledError as problem:
            problems.append(problem)
            left_out.append(f"{_short_name(part)} ({problem.reason})")
    if not labelled_parts:
        raise problems[0]
    return labelled_parts, left_out


class _NotLabelledError(DataError):
    """A part without texts or without labels: left out if there are others."""

    reason = ""


def _not_labelled(reason: str, what: str, part: Part, remedy: str) -> _NotLabelledError:
    error = _NotLabelledError(what, where=part.name, remedy=remedy)
    error.reason = reason
    return error


def _read_part(part: Part) -> _Examples:
    """The texts and labels of a part's rows. Raises DataError, which names all refused rows."""
    rows = part.rows
    columns = _choose_columns(rows)
    if not all(columns) and _has_no_header(rows):
        rows = read_without_header(rows)
        part = Part(part.name, part.split, rows)
        columns = _choose_by_content(rows)
    text_column, label_column = columns
    _check_columns(part, rows, text_column, label_column)
    texts = []
    places = []
    labels = []
    labelled_rows = []
    without_text = []
    without_label = []
    problems = []
    for row, place in zip(rows.objects, rows.places, strict=True):
        value = row.get(text_column)
        label = read_label(row.get(label_column))
        if _is_missing(value):
            without_text.append(place)
        elif not isinstance(value, str):
            problems.append((place, f"{show_names([text_column])} is {show(value)}, not a text"))
        elif not label:
            without_label.append(place)
        elif not clean_text(value):
            without_text.append(place)
        else:
            texts.append(clean_text(value))
            labels.append(label)
            places.append(place)
            labelled_rows.append(row)
    refuse_rows(problems, f"write a text into {show_names([text_column])}, or delete the row.")
    if not texts and without_text:
        raise _not_labelled("no texts", "has no text in any row.", part, "fill in the texts.")
    if not texts or set(labels) == {"-1"}:
        remedy = "fill in the labels, or give the file that has them."
        raise _not_labelled("no labels", "has no label in any row.", part, remedy)
    _check_words(texts, text_column, part)
    frame = pd.DataFrame(
        {
            "text": texts,
            "label": labels,
            "place": places,
            "document": _name_documents(labelled_rows, places, text_column),
            "split": _name_splits(labelled_rows, part.split),
        }
    )
    others = [name for name in _list_candidates(rows) if name not in columns]
    return _Examples(part, columns, others, frame, without_text, without_label)


def _is_missing(value: object) -> bool:
    """Whether a cell is empty: None, NaN, white space, or a word that programs write for it."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in ("nan", "NaN", "null", "NULL", "<NA>")
    return value is None or (isinstance(value, float) and value != value)


def _check_words(texts: list[str], column: str, part: Part) -> None:
    """Raises DataError if most texts of a column are numbers."""
    numbers = sum(1 for text in texts if re.fullmatch(r"[\d.,:/+-]+", text))
    if numbers > len(texts) / 2:
        raise DataError(
            f"column {show_names([column])} holds numbers, such as {show(texts[0])}, not texts.",
            where=part.name,
            remedy='call the column that holds the texts "text".',
        )


def _name_documents(
    rows: Sequence[Mapping[str, object]], places: list[str], text_column: str
) -> list[str]:
    """The document of each row: the value of a column called document or group, else its place."""
    groups = [name for name in rows[0] if _normalize(name) in GROUP_COLUMNS and name != text_column]
    if not groups:
        return places
    return [str(row.get(groups[0])) for row in rows]


def _name_splits(rows: Sequence[Mapping[str, object]], split_of_part: str) -> list[str]:
    """The split of each row: that of its file or folder, else that of a column called split in
    which every value names one, else "".
    """
    columns = [name for name in rows[0] if _normalize(name) in SPLIT_COLUMNS]
    if split_of_part or not columns:
        return [split_of_part] * len(rows)
    splits = [find_split(str(row.get(columns[0]))) for row in rows]
    return splits if all(splits) else [""] * len(rows)


# --- columns --------------------------------------------------------------------------------------


def _normalize(name: object) -> str:
    """A column's name as TEXT_COLUMNS and LABEL_COLUMNS spell it: "reviewtext" for "Review Text"
    and "reviewText".
    """
    return re.sub(r"[\W_]", "", re.split(r"[(\[]", str(name))[0].casefold())


def _list_candidates(rows: Rows) -> list[str]:
    """Columns that may hold texts or labels."""
    known = (*TEXT_COLUMNS, *LABEL_COLUMNS, *RATING_COLUMNS)
    return [name for name in list_columns(rows) if _normalize(name) in known]


def _choose_columns(rows: Rows) -> tuple[str, str]:
    """The columns of texts and of labels, "" if no name is known."""
    columns = list_columns(rows)
    texts = _sort_by_list(columns, TEXT_COLUMNS)
    labels = _sort_by_list(columns, (*LABEL_COLUMNS, *RATING_COLUMNS))
    return (texts[0] if texts else ""), _choose_label_column(rows, labels)


def _sort_by_list(columns: list[str], names: tuple[str, ...]) -> list[str]:
    """The columns whose normalized names are among `names`, in the order of `names`."""
    known = [column for column in columns if _normalize(column) in names]
    return sorted(known, key=lambda column: names.index(_normalize(column)))


def _choose_label_column(rows: Rows, columns: list[str]) -> str:
    """The first column that holds names of classes; else the first of 0 and 1; else the first."""
    labels = {}
    for name in columns:
        labels[name] = {read_label(row.get(name)) for row in rows.objects} - {""}
    for class_labels in (set(NAMES), set(LABELS)):
        for name in columns:
            if labels[name] and labels[name] <= class_labels:
                return name
    return columns[0] if columns else ""


def _has_no_header(rows: Rows) -> bool:
    """Whether a table's first line is a row: its label is among the labels of the rows below."""
    return bool(rows.header) and len(rows.header) > 1 and all(_choose_by_content(rows, rows.header))


def _choose_by_content(rows: Rows, header: Sequence[str] = ()) -> tuple[str, str]:
    """The columns of texts (the longest) and of labels (names of classes, or few numbers).

    header: must hold a label too, if given. Both are "" if no single column holds labels.
    """
    columns = list_columns(rows)
    firsts = header or [""] * len(columns)
    if len(firsts) != len(columns):
        return "", ""
    labels = []
    for name, first in zip(columns, firsts, strict=True):
        values = {read_label(row.get(name)) for row in rows.objects}
        are_few = len(values) <= min(MOST_RATINGS, len(rows.objects) / 2)
        are_labels = all(value in NAMES or re.fullmatch(r"-?\d{1,2}", value) for value in values)
        if are_few and are_labels and (not header or read_label(first) in values):
            labels.append(name)
    lengths = {}
    for name in columns:
        lengths[name] = sum(len(str(row.get(name))) for row in rows.objects)
    longest = max(columns, key=lambda name: lengths[name])
    if len(labels) != 1 or longest in labels:
        return "", ""
    return longest, labels[0]


def _check_columns(part: Part, rows: Rows, text_column: str, label_column: str) -> None:
    columns = list_columns(rows)
    for column, names, holds in (
        (text_column, TEXT_COLUMNS, "texts"),
        (label_column, LABEL_COLUMNS, "labels"),
    ):
        if not column:
            raise _not_labelled(
                f"no {holds}",
                f"has no column {' or '.join(names[:3])}; it has {show_names(columns)}.",
                part,
                _advise_on_columns(columns, holds, names[0]),
            )


def _advise_on_columns(columns: list[str], holds: str, name: str) -> str:
    if any(read_label(column) in LABELS or len(str(column).split()) > 4 for column in columns):
        return "write the columns' names into the first line, such as text,label."
    return f'call the column that holds the {holds} "{name}".'


def _read_mapping_in_name(column: str) -> dict[str, str]:
    """The mapping that a column's name states, as in "label (0=positive, 1=negative)"."""
    inside = re.search(r"[(\[](.*=.*)[)\]]", column)
    try:
        return parse_labels(inside.group(1)) if inside else {}
    except ValueError:  # the brackets hold no mapping
        return {}


# --- what was understood --------------------------------------------------------------------------


def _short_name(part: Part) -> str:
    return part.name.rsplit("/", 1)[-1]


def _describe_reading(labelled_parts: list[_Examples], where: str) -> list[str]:
    """One line: files with their splits, notes on how they were read, and the chosen columns."""
    notes: dict[str, None] = {}
    others: dict[str, None] = {}
    columns: dict[str, None] = {}
    for examples in labelled_parts:
        notes.update(dict.fromkeys(examples.part.rows.notes))
        others.update(dict.fromkeys(examples.other_columns))
        text, label = examples.columns
        columns[f'texts in "{show_names([text])}", labels in "{show_names([label])}"'] = None
    also = f" (also there: {show_names(list(others))})" if others else ""
    files = ""
    if len(labelled_parts) > 1:
        names = []
        for examples in labelled_parts:
            names.append(f"{_short_name(examples.part)} ({_describe_split(examples)})")
        more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
        files = f"{', '.join(names[:5])}{more}; "
    return [f"{where}: {files}{', '.join(notes)}; {'; '.join(columns)}{also}"]


def _describe_split(examples: _Examples) -> str:
    split = examples.part.split
    return f"{split}, {len(examples.frame):,} rows" if split else f"{len(examples.frame):,} rows"


def _describe_labels(classes: Mapping[str, str], uses: Mapping[str, LabelUse]) -> str:
    """One line: each label with its class, its number of rows and the text of one of them."""
    descriptions = []
    order = (*THREE_CLASSES, LEFT_OUT)
    for label, name in sorted(classes.items(), key=lambda pair: order.index(pair[1])):
        target = "left out" if name == LEFT_OUT else name
        descriptions.append(f"{show_names([label])} → {target} ({uses[label]})")
    line = f"labels: {'; '.join(descriptions)}"
    # most publishers number the classes so, but not all
    if (classes.get("0"), classes.get("1")) == ("negative", "positive"):
        line += '. The other way round? LABELS="0=positive,1=negative"'
    return line


def _describe_missing(labelled_parts: list[_Examples], where: str) -> list[str]:
    lines = []
    for name in ("text", "label"):
        places = []
        for examples in labelled_parts:
            places += getattr(examples, f"without_{name}")
        if places:
            lines.append(
                f"{count(len(places), 'row')} left out: no {name} ({show_places(places, where)})"
            )
    return lines


# --- checking and splitting -----------------------------------------------------------------------


class _KeySigns(dict):
    """A table for `str.translate`: letters, digits, vowel signs and emoji stay, other characters
    become spaces.
    """

    def __missing__(self, code: int) -> int | str | None:
        char = chr(code)
        is_word = char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M"
        # "Sk" has their skin colours
        is_emoji = code > 127 and unicodedata.category(char) in ("So", "Sk")
        if "\ufe00" <= char <= "\ufe0f" or char == "\u200d":  # how an emoji is drawn or joined
            self[code] = None
        else:
            self[code] = code if is_word or is_emoji else " "
        return self[code]


_KEY_SIGNS = _KeySigns()


def make_key(text: str) -> str:
    """A key that equal texts share: their words and emoji, without case and punctuation.

    The key of a text without words and emoji is its signs except MERE_PUNCTUATION, such as ":)".
    """
    plain = unicodedata.normalize("NFKC", text).lower().translate(_KEY_SIGNS)
    return " ".join(plain.split()) or MERE_PUNCTUATION.sub("", text)


def _find_contradictions(frame: pd.DataFrame) -> pd.Series:
    """Whether each row's text has another label in another row."""
    return frame.groupby("key")["label"].transform("nunique") > 1


def _drop_contradictions(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """`frame` without texts that have two labels, and a phrase that counts them."""
    contradicts = _find_contradictions(frame)
    if not contradicts.any():
        return frame, ""
    texts = frame.loc[contradicts, "key"].nunique()
    phrase = (
        f"{count(texts, 'text')} with two labels left out "
        f"({count(int(contradicts.sum()), 'row')}), "
    )
    return frame[~contradicts].reset_index(drop=True), phrase


def _note_contradictions(frame: pd.DataFrame) -> list[str]:
    """A line that counts texts with two labels, if there are any."""
    contradicts = _find_contradictions(frame)
    texts = frame.loc[contradicts, "key"].nunique()
    return [f"{count(texts, 'text')} with two labels: one of them counts"] if texts else []


def drop_duplicate_texts(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """`frame` with one row per text (see `make_key`), and how many rows were dropped.

    Of equal texts the one in test stays, else the one in validation, else the first.
    """
    order = frame["split"].map({"test": 0, "validation": 1}).fillna(2)
    first = frame.assign(order=order).sort_values("order", kind="stable").drop_duplicates("key")
    unique = frame.loc[first.index.sort_values()]
    return unique.reset_index(drop=True), len(frame) - len(unique)


def _check_classes(
    frame: pd.DataFrame,
    names: list[str],
    source: str | Path,
    least: int,
    remedy: str = "add rows (and documents) of the missing class.",
) -> None:
    counts = {name: int((frame["label"] == name).sum()) for name in names}
    if min(counts.values()) < least:
        raise DataError(
            f"{show_path(source)} has {' and '.join(f'{n} {name}' for name, n in counts.items())} "
            f"rows; each class needs at least {least}.",
            remedy=remedy,
        )


def _split(
    frame: pd.DataFrame, names: list[str], sizes: dict[str, int], seed: int
) -> dict[str, pd.DataFrame]:
    """The rows by split. Splits that the source does not have are cut off the rest, test first."""
    given = {name: frame[frame["split"] == name] for name in ("test", "validation")}
    rest = frame[~frame["split"].isin(["test", "validation"])]
    parts = {}
    for name, rows in sizes.items():
        if len(given[name]):
            part = given[name]
            parts[name] = part.sample(min(rows or len(part), len(part)), random_state=seed)
        else:
            _check_classes(
                rest, names, "What is left for training", least=2, remedy=_advise(frame, rest)
            )
            parts[name], rest = cut_part(
                rest, max(2, min(rows or len(frame), len(frame) // 5)), seed
            )
    return {"train": rest, "validation": parts["validation"], "test": parts["test"]}


def _advise(frame: pd.DataFrame, rest: pd.DataFrame) -> str:
    if len(rest) < len(frame) / 2:
        return "add a file of training rows, or call files and folders something else than test."
    return "add rows (and documents) of the missing class."


def cut_part(frame: pd.DataFrame, rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`rows` rows, stratified by label, and the rest. Documents stay whole, which makes `rows`
    approximate.
    """
    if frame["document"].is_unique:
        rest, part = train_test_split(
            frame, test_size=rows, stratify=frame["label"], random_state=seed
        )
        return part, rest
    documents = frame["document"].nunique()
    if documents < 2:
        raise DataError(
            "all rows belong to one document, and rows of a document stay on one side.",
            remedy="name several documents in the column document (or group), or leave it out.",
        )
    most = min(documents, int(frame["label"].value_counts().max()))
    folds = StratifiedGroupKFold(
        min(most, max(2, round(len(frame) / rows))), shuffle=True, random_state=seed
    )
    keep, cut = next(folds.split(frame, frame["label"], frame["document"]))
    # shuffled, so that no document comes first
    return frame.iloc[cut].sample(frac=1, random_state=seed), frame.iloc[keep]


def _to_dataset(frame: pd.DataFrame, names: list[str]) -> Dataset:
    features = {
        "text": Value("string"),
        "label": ClassLabel(names=names),
        "document": Value("string"),
    }
    if "rating" in frame:
        features |= {"rating": Value("float64"), "row": Value("int64")}
    columns = {name: frame[name].tolist() for name in features}
    return Dataset.from_dict(columns, features=Features(features))

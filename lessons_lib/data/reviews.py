"""Reviews from four kinds of places, cleaned, split and checked.

Contract: `load_reviews` returns a DatasetDict with train, validation and test; no text stands on
two sides, rows of one document stay on one side, and the split depends on its seed alone. Every
choice is made on validation; test is looked at once. It does not tokenize, and it balances nothing.

Of a reader's own files it prints what was understood: encoding, columns, and each label with its
class. Rows without a text or a label are left out and counted; a value that is no text, or a label
that is no class, is refused, all at once. Texts that stand with two labels are left out of readers'
files.
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

# Names of columns as `_normalize` writes them, the most telling first.
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
MOST_RATINGS = 10  # more different numbers are no labels
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
    """Texts as train, validation and test, with columns `text` and `label`, whose feature names the
    classes: CLASS_NAMES, or THREE_CLASSES where `neutral` rows are kept and there are any.

    source: "snippets:movie", "snippets:news" or "snippets:product" (packaged, rated by people;
    Hutto & Gilbert 2014), "samples" or "samples:news" (written for this course), a data set on the
    Hub (such as "stanfordnlp/imdb" or "takala/financial_phrasebank"), or a file or folder of your
    own (CSV, TSV, JSON, JSONL, Parquet, TXT with lines sentence@label, aclImdb, a folder of
    `save_to_disk`). train_rows 0 takes all that remain; small sources give validation and test a
    fifth each at most. `split_seed` decides who is in test, `seed` which training rows are taken
    when not all are. labels: the class (negative, neutral, positive, or out) of each label that is
    no class's name, such as {1: "negative", 2: "positive"}; without it, of a reader's own data, the
    environment's LESSONS_LABELS. Prints what was understood and left out. Raises DataError, which
    names file, row and remedy.
    """
    read = _read_source(source, labels)
    for line in read.lines:
        print(line)
    frame, contradictions = _drop_contradictions(read.frame) if read.is_own else (read.frame, "")
    clear = frame if neutral else frame[frame["clear"]]
    kept, doubles = _drop_duplicates(clear)
    neutral_ones = "" if neutral else f"{len(frame) - len(clear):,} neutral ones left out, "
    print(
        f"{show_path(source)}: {len(read.frame):,} rows read, {contradictions}{neutral_ones}"
        f"{doubles:,} duplicates dropped, {len(kept):,} kept"
    )
    names = THREE_CLASSES if (kept["label"] == "neutral").any() else CLASS_NAMES
    _check_classes(kept, names, source, least=5)
    parts = _split(kept, names, {"test": test_rows, "validation": validation_rows}, split_seed)
    for name, part in parts.items():
        _check_classes(part, names, f"The {name} part of {show_path(source)}", least=1)
    splits = DatasetDict({name: _to_dataset(part, names) for name, part in parts.items()})
    splits["train"] = take_rows(splits["train"], train_rows, seed)
    return splits


def take_rows(dataset: Dataset, rows: int, seed: int) -> Dataset:
    """`rows` rows, stratified by label and shuffled by `seed`; all of them, shuffled, for 0."""
    if not rows or rows >= len(dataset):
        return dataset.shuffle(seed=seed)
    chosen, _ = train_test_split(
        np.arange(len(dataset)), train_size=rows, stratify=dataset["label"], random_state=seed
    )
    return dataset.select(chosen)


def count_classes(splits: DatasetDict) -> pd.DataFrame:
    """A table of rows by split and class, with the median length in words."""
    return pd.DataFrame(
        {
            name: {
                "rows": len(part),
                **{c: part["label"].count(n) for n, c in enumerate(part.features["label"].names)},
                "median words": int(np.median([len(text.split()) for text in part["text"]])),
            }
            for name, part in splits.items()
        }
    ).T


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """What was read of a source.

    frame: columns text, label (a class name), document, split ("" where the source has none), key
    (what equal texts share), and clear: False for rows that are no example of two classes. lines:
    what to print about it. is_own: a reader's own files, as against those whose rows are published.
    """

    frame: pd.DataFrame
    lines: list[str]
    is_own: bool


def _read_source(source: str | Path, labels: Mapping[object, str] | None) -> _Source:
    name = str(source)
    if name.startswith("snippets:"):
        frame = read_snippets(name.removeprefix("snippets:"))
        classes = np.array(THREE_CLASSES)[label_ratings(frame["rating"].to_numpy())]
        frame = frame.assign(label=classes, split="", clear=frame["rating"].abs() > MIN_RATING)
        frame["key"] = frame["text"].map(_make_key)
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
    """Whether a source is called "owner/name" and is no file. Raises DataError for an address of
    the web.
    """
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
    except OSError:  # a folder on the way that may not be opened: `open_path` will say so
        return True


# --- from parts to labelled texts -----------------------------------------------------------------


@dataclass
class _Examples:
    """The texts of a part with their labels as `read_label` gives them; and which rows had none."""

    part: Part
    columns: tuple[str, str]  # of texts and labels
    other_columns: list[str]  # that could have been taken, too
    frame: pd.DataFrame  # text, label, place, document, split
    without_text: list[str]  # places
    without_label: list[str]


def _label_collection(
    collection: Collection, mapping: Mapping[str, str], where: str
) -> tuple[pd.DataFrame, list[str]]:
    """The labelled texts of all parts, and lines that say what was understood."""
    read, left_out = _read_parts(collection)
    frame = pd.concat([examples.frame for examples in read], ignore_index=True)
    uses = _list_labels(frame)
    label_column = read[0].columns[1]
    classes = name_classes(
        uses,
        mapping or _read_mapping_in_name(label_column),
        column=show_names([label_column]),
        where=where,
        is_rating=any(_normalize(examples.columns[1]) in RATING_COLUMNS for examples in read),
    )
    lines = _describe_reading(read, where)
    if left_out:
        lines.append(f"left out: {'; '.join(left_out)}")
    lines.append(_describe_labels(classes, uses))
    lines += _describe_missing(read, where)
    frame["label"] = frame["label"].map(classes)
    frame = frame[frame["label"] != LEFT_OUT].reset_index(drop=True)
    keys = frame["text"].map(_make_key)
    return frame.assign(clear=frame["label"] != "neutral", key=keys), lines


def _list_labels(frame: pd.DataFrame) -> dict[str, LabelUse]:
    counts = frame["label"].value_counts()
    return {
        row.label: LabelUse(int(counts[row.label]), row.place, show_text(row.text))
        for row in frame.drop_duplicates("label").itertuples()
    }


def _read_parts(collection: Collection) -> tuple[list[_Examples], list[str]]:
    """The parts that hold labelled texts. Of several, those without are left out; the only one is
    refused.
    """
    read = []
    left_out = list(collection.left_out)
    problems = []
    for part in collection.parts:
        try:
            read.append(_read_part(part))
        except _NotLabelledError as problem:
            problems.append(problem)
            left_out.append(f"{_short_name(part)} ({problem.reason})")
    if not read:
        raise problems[0]
    return read, left_out


class _NotLabelledError(DataError):
    """A part without texts or without labels: left out where there are others."""

    reason = ""


def _not_labelled(reason: str, what: str, part: Part, remedy: str) -> _NotLabelledError:
    error = _NotLabelledError(what, where=part.name, remedy=remedy)
    error.reason = reason
    return error


def _read_part(part: Part) -> _Examples:
    """The texts and labels of a part's rows. Raises DataError, which names all rows that are
    refused.
    """
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
    kept = []
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
            kept.append(row)
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
            "document": _name_documents(kept, places, text_column),
            "split": _name_splits(kept, part.split),
        }
    )
    others = [name for name in _list_candidates(rows) if name not in columns]
    return _Examples(part, columns, others, frame, without_text, without_label)


def _is_missing(value: object) -> bool:
    """Whether a cell holds nothing: None, NaN, white space, or what programs write for nothing."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in ("nan", "NaN", "null", "NULL", "<NA>")
    return value is None or (isinstance(value, float) and value != value)


def _check_words(texts: list[str], column: str, part: Part) -> None:
    """Raises DataError for a column of numbers."""
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
    """What each row belongs to: the value of a column called document or group, else the row
    itself.
    """
    groups = [name for name in rows[0] if _normalize(name) in GROUP_COLUMNS and name != text_column]
    if not groups:
        return places
    return [str(row.get(groups[0])) for row in rows]


def _name_splits(rows: Sequence[Mapping[str, object]], split_of_part: str) -> list[str]:
    """The split of each row: of its file or folder; else of a column called split that names
    nothing else.
    """
    columns = [name for name in rows[0] if _normalize(name) in SPLIT_COLUMNS]
    if split_of_part or not columns:
        return [split_of_part] * len(rows)
    splits = [find_split(str(row.get(columns[0]))) for row in rows]
    return splits if all(splits) else [""] * len(rows)


# --- columns --------------------------------------------------------------------------------------


def _normalize(name: object) -> str:
    """A column's name as lists of names have it: "Review Text" and "reviewText" are
    "reviewtext".
    """
    return re.sub(r"[\W_]", "", re.split(r"[(\[]", str(name))[0].casefold())


def _list_candidates(rows: Rows) -> list[str]:
    """Columns that may hold texts or labels."""
    known = (*TEXT_COLUMNS, *LABEL_COLUMNS, *RATING_COLUMNS)
    return [name for name in list_columns(rows) if _normalize(name) in known]


def _choose_columns(rows: Rows) -> tuple[str, str]:
    """The columns of texts and of labels, "" where no name is known."""
    columns = list_columns(rows)
    texts = _sort_by_list(columns, TEXT_COLUMNS)
    labels = _sort_by_list(columns, (*LABEL_COLUMNS, *RATING_COLUMNS))
    return (texts[0] if texts else ""), _choose_label_column(rows, labels)


def _sort_by_list(columns: list[str], names: tuple[str, ...]) -> list[str]:
    known = [column for column in columns if _normalize(column) in names]
    return sorted(known, key=lambda column: names.index(_normalize(column)))


def _choose_label_column(rows: Rows, columns: list[str]) -> str:
    """The first column of classes' names; else the first of 0 and 1; else the first."""
    labels = {name: {read_label(row.get(name)) for row in rows.objects} - {""} for name in columns}
    for known in (set(NAMES), set(LABELS)):
        for name in columns:
            if labels[name] and labels[name] <= known:
                return name
    return columns[0] if columns else ""


def _has_no_header(rows: Rows) -> bool:
    """Whether a table's first line is a row: its label stands among the labels of the rows
    below.
    """
    return bool(rows.header) and len(rows.header) > 1 and all(_choose_by_content(rows, rows.header))


def _choose_by_content(rows: Rows, header: Sequence[str] = ()) -> tuple[str, str]:
    """The one column of labels (names of classes, or few numbers) and the one of the longest
    texts.
    """
    columns = list_columns(rows)
    firsts = header or [""] * len(columns)
    if len(firsts) != len(columns):
        return "", ""
    labels = []
    for name, first in zip(columns, firsts, strict=True):
        values = {read_label(row.get(name)) for row in rows.objects}
        few = len(values) <= min(MOST_RATINGS, len(rows.objects) / 2)
        are_labels = all(value in NAMES or re.fullmatch(r"-?\d{1,2}", value) for value in values)
        if few and are_labels and (not header or read_label(first) in values):
            labels.append(name)
    lengths = {name: sum(len(str(row.get(name))) for row in rows.objects) for name in columns}
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
    except ValueError:  # something else stands between the brackets
        return {}


# --- what was understood --------------------------------------------------------------------------


def _short_name(part: Part) -> str:
    return part.name.rsplit("/", 1)[-1]


def _describe_reading(read: list[_Examples], where: str) -> list[str]:
    """One line: the files with their splits, how they were read, and which columns were taken."""
    notes: dict[str, None] = {}
    others: dict[str, None] = {}
    columns: dict[str, None] = {}
    for examples in read:
        notes.update(dict.fromkeys(examples.part.rows.notes))
        others.update(dict.fromkeys(examples.other_columns))
        text, label = examples.columns
        columns[f'texts in "{show_names([text])}", labels in "{show_names([label])}"'] = None
    also = f" (also there: {show_names(list(others))})" if others else ""
    files = ""
    if len(read) > 1:
        names = [f"{_short_name(examples.part)} ({_describe_split(examples)})" for examples in read]
        more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
        files = f"{', '.join(names[:5])}{more}; "
    return [f"{where}: {files}{', '.join(notes)}; {'; '.join(columns)}{also}"]


def _describe_split(examples: _Examples) -> str:
    split = examples.part.split
    return f"{split}, {len(examples.frame):,} rows" if split else f"{len(examples.frame):,} rows"


def _describe_labels(classes: Mapping[str, str], uses: Mapping[str, LabelUse]) -> str:
    """Each label with its class, how many rows it has and one of them."""
    known = []
    order = (*THREE_CLASSES, LEFT_OUT)
    for label, name in sorted(classes.items(), key=lambda pair: order.index(pair[1])):
        target = "left out" if name == LEFT_OUT else name
        known.append(f"{show_names([label])} → {target} ({uses[label]})")
    line = f"labels: {'; '.join(known)}"
    # as most publishers have them
    if (classes.get("0"), classes.get("1")) == ("negative", "positive"):
        line += '. The other way round? LABELS="0=positive,1=negative"'
    return line


def _describe_missing(read: list[_Examples], where: str) -> list[str]:
    lines = []
    for name in ("text", "label"):
        places = [place for examples in read for place in getattr(examples, f"without_{name}")]
        if places:
            lines.append(
                f"{count(len(places), 'row')} left out: no {name} ({show_places(places, where)})"
            )
    return lines


# --- checking and splitting -----------------------------------------------------------------------


class _KeySigns(dict):
    """For `str.translate`: letters, digits, vowel signs and emoji stay, all other signs become
    spaces.
    """

    def __missing__(self, code: int) -> int | str | None:
        char = chr(code)
        is_word = char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M"
        # with their skin colours
        is_emoji = code > 127 and unicodedata.category(char) in ("So", "Sk")
        if "\ufe00" <= char <= "\ufe0f" or char == "\u200d":  # how an emoji is drawn or joined
            self[code] = None
        else:
            self[code] = code if is_word or is_emoji else " "
        return self[code]


_KEY_SIGNS = _KeySigns()


def _make_key(text: str) -> str:
    """What equal texts share: their words and emoji, without case, punctuation and white space.

    Of a text without any, the signs that are no mere punctuation, such as ":)".
    """
    plain = unicodedata.normalize("NFKC", text).lower().translate(_KEY_SIGNS)
    return " ".join(plain.split()) or MERE_PUNCTUATION.sub("", text)


def _find_contradictions(frame: pd.DataFrame) -> pd.Series:
    """Whether each row's text stands elsewhere with another label."""
    return frame.groupby("key")["label"].transform("nunique") > 1


def _drop_contradictions(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Without texts that stand with two labels, and a phrase that counts them."""
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
    contradicts = _find_contradictions(frame)
    texts = frame.loc[contradicts, "key"].nunique()
    return [f"{count(texts, 'text')} with two labels: one of them counts"] if texts else []


def _drop_duplicates(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Without rows whose words stand elsewhere; of two, the one in test stays, then
    validation's.
    """
    order = frame["split"].map({"test": 0, "validation": 1}).fillna(2)
    first = frame.assign(order=order).sort_values("order", kind="stable").drop_duplicates("key")
    kept = frame.loc[first.index.sort_values()]
    return kept.reset_index(drop=True), len(frame) - len(kept)


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
    """Cuts what the source has not split itself: first test off, then validation off the rest."""
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
            parts[name], rest = _cut(rest, max(2, min(rows or len(frame), len(frame) // 5)), seed)
    return {"train": rest, "validation": parts["validation"], "test": parts["test"]}


def _advise(frame: pd.DataFrame, rest: pd.DataFrame) -> str:
    if len(rest) < len(frame) / 2:
        return "add a file of training rows, or call files and folders something else than test."
    return "add rows (and documents) of the missing class."


def _cut(frame: pd.DataFrame, rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`rows` rows (about that many where documents must stay whole), stratified by label; the
    rest.
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
    # no document first
    return frame.iloc[cut].sample(frac=1, random_state=seed), frame.iloc[keep]


def _to_dataset(frame: pd.DataFrame, names: list[str]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({c: frame[c].tolist() for c in ("text", "label")}, features=features)

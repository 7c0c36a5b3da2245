"""Reviews from four kinds of places, cleaned, split and checked.

Contract: `load_reviews` returns a DatasetDict with train, validation and test; no text stands on two
sides, rows of one document stay on one side, and the split depends on its seed alone. Every choice is
made on validation; test is looked at once. It does not tokenize, and it balances nothing.
"""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from huggingface_hub import hf_hub_download
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from lessons_lib.data.files import SAMPLES, clean_text, decode_file, read_json_rows, read_table
from lessons_lib.data.sources.snippets import MIN_RATING, label_ratings, read_snippets
from lessons_lib.errors import DataError

CLASS_NAMES = ["negative", "positive"]
THREE_CLASSES = ["negative", "neutral", "positive"]
TEXT_COLUMNS = ("text", "review", "sentence")
LABEL_COLUMNS = ("label", "sentiment")
GROUP_COLUMNS = ("document", "group")
LABELS = {"neg": "negative", "negative": "negative", "0": "negative", "neutral": "neutral"}
LABELS |= {"pos": "positive", "positive": "positive", "1": "positive"}
TABLES = (".csv", ".tsv", ".json", ".jsonl")
ENDINGS = (*TABLES, ".txt")
PHRASEBANK = "takala/financial_phrasebank"  # a name on the Hub; a script that `datasets` no longer runs
PHRASEBANK_FILES = ("data/FinancialPhraseBank-v1.0.zip", "FinancialPhraseBank-v1.0/Sentences_50Agree.txt")
SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation"}
SPLIT_NAMES |= {"val": "validation", "test": "test"}
SAMPLE_FILES = {"samples": SAMPLES / "movie_reviews.csv", "samples:news": SAMPLES / "news_sentences.txt"}


def load_reviews(
    source: str | Path,
    *,
    train_rows: int = 0,
    validation_rows: int = 500,
    test_rows: int = 1500,
    split_seed: int = 0,
    seed: int = 0,
    neutral: bool = False,
) -> DatasetDict:
    """Texts as train, validation and test, with columns `text` and `label`, whose feature names the classes:
    CLASS_NAMES, or THREE_CLASSES where `neutral` rows are kept and there are any.

    source: "snippets:movie", "snippets:news" or "snippets:product" (packaged, rated by people; Hutto &
    Gilbert 2014), "samples" or "samples:news" (written for this course), a data set on the Hub (such as
    "stanfordnlp/imdb" or "takala/financial_phrasebank"), or a file or folder of your own (CSV, TSV, JSON,
    JSONL, TXT with lines sentence@label, aclImdb).
    train_rows 0 takes all that remain; small sources give validation and test a fifth each at most.
    `split_seed` decides who is in test, `seed` which training rows are taken when not all are. Prints
    what was left out. Raises DataError, which names file, row and remedy.
    """
    read = _read_source(source)
    frame = read if neutral else read[read["clear"]]
    kept, doubles = _drop_duplicates(frame)
    left_out = "" if neutral else f"{len(read) - len(frame):,} neutral ones left out, "
    print(f"{source}: {len(read):,} rows read, {left_out}{doubles:,} duplicates dropped, {len(kept):,} kept")
    names = THREE_CLASSES if (kept["label"] == "neutral").any() else CLASS_NAMES
    _check_classes(kept, names, source, least=5)
    parts = _split(kept, names, {"test": test_rows, "validation": validation_rows}, split_seed)
    for name, part in parts.items():
        _check_classes(part, names, f"The {name} part of {source}", least=1)
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


def _read_source(source: str | Path) -> pd.DataFrame:
    """Columns text, label (a class name), document, split (empty where the source has none), and clear: False
    for rows that are no example of two classes."""
    name = str(source)
    if name.startswith("snippets:"):
        frame = read_snippets(name.removeprefix("snippets:"))
        labels = np.array(THREE_CLASSES)[label_ratings(frame["rating"].to_numpy())]
        return frame.assign(label=labels, split="", clear=frame["rating"].abs() > MIN_RATING)
    path = Path(SAMPLE_FILES.get(name, source)).expanduser()
    if path.exists():
        frame = _read_folder(path) if path.is_dir() else _read_file(path)
    elif path.suffix.lower() in ENDINGS or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise DataError(f"{path} does not exist. Remedy: check the path; files may end in {ENDINGS}.")
    else:
        frame = _read_hub(name)
    return frame.assign(clear=frame["label"] != "neutral")


def _read_hub(name: str) -> pd.DataFrame:
    try:
        if name == PHRASEBANK:
            with zipfile.ZipFile(hf_hub_download(name, PHRASEBANK_FILES[0], repo_type="dataset")) as files:
                return _read_lines(files.read(PHRASEBANK_FILES[1]).decode("latin-1"), name)
        parts = load_dataset(name)
    except Exception as error:  # the library raises many kinds, from missing names to lost connections
        raise DataError(
            f"{name} could not be loaded from the Hugging Face Hub ({type(error).__name__}: {error}). "
            "Remedy: check the name and the network, or give a file of your own (LESSON=… DATA=reviews.csv)."
        ) from error
    frames = []
    for key in (key for key in parts if key in SPLIT_NAMES):
        part, label = parts[key].to_pandas(), parts[key].features.get("label")
        if isinstance(label, ClassLabel):  # by name: every publisher has an order of their own
            part = part[part["label"] >= 0]  # −1: kept secret, as SST-2's test labels are
            part["label"] = [label.names[number] for number in part["label"]]
        frames.append(_check_rows(part, f"{name}[{key}]").assign(split=SPLIT_NAMES[key]))
    frame = pd.concat(frames, ignore_index=True)
    if "test" not in set(frame["split"]):
        frame["split"] = frame["split"].replace("validation", "test")
    return frame


def _read_folder(folder: Path) -> pd.DataFrame:
    """An aclImdb folder (…/pos/*.txt, …/neg/*.txt, with train and test above them), or one of files."""
    frames = []
    for path in sorted(folder.glob("**/*.txt")):
        if path.parent.name in LABELS:
            split = SPLIT_NAMES.get(path.parent.parent.name, "")
            frames.append((clean_text(decode_file(path)), LABELS[path.parent.name], split))
    if frames:
        frame = pd.DataFrame(frames, columns=["text", "label", "split"])
        return frame.assign(document=_own_document(frame, folder))
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLES]
    if not files:
        raise DataError(
            f"{folder} holds no reviews. Remedy: put pos/*.txt and neg/*.txt or files ending in "
            f"{', '.join(TABLES)} there."
        )
    return pd.concat(
        [_read_file(path).assign(split=SPLIT_NAMES.get(path.stem.lower(), "")) for path in files],
        ignore_index=True,
    )


def _read_file(path: Path) -> pd.DataFrame:
    text = decode_file(path)
    if not text.strip():
        raise DataError(f"{path} is empty. Remedy: give a file with a text and a label column.")
    if path.suffix.lower() == ".txt":
        return _read_lines(text, str(path)).assign(split="")
    try:
        if path.suffix.lower() == ".jsonl":
            frame = pd.DataFrame([row for _, row in read_json_rows(path, text)])
        elif path.suffix.lower() == ".json":
            frame = pd.read_json(io.StringIO(text), dtype=False)
        else:
            frame = read_table(path, text)
    except (ValueError, csv.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} could not be read: {error}. Remedy: mend that place.") from error
    return _check_rows(frame, str(path)).assign(split="")


def _read_lines(text: str, where: str) -> pd.DataFrame:
    """Lines sentence@label, as Financial PhraseBank has them."""
    rows = [line.rpartition("@")[::2] for line in text.strip().splitlines()]
    return _check_rows(pd.DataFrame(rows, columns=["text", "label"]), where, "line {}").assign(split="")


# --- checking and splitting -----------------------------------------------------------------------


def _check_rows(frame: pd.DataFrame, where: str, place: str = "row {} after the header") -> pd.DataFrame:
    """The text, label and document of every row, or a DataError that names the first bad one."""
    frame = frame.rename(columns=lambda name: str(name).strip().lower())
    text, label = _pick(frame, TEXT_COLUMNS, where), _pick(frame, LABEL_COLUMNS, where)
    for position, value in enumerate(frame[text]):
        if not isinstance(value, str) or not value.strip():
            raise DataError(
                f"{where}, {place.format(position + 1)}: {text} is {value!r}, not a text. "
                "Remedy: fill it in or delete the row."
            )
    labels = [LABELS.get(str(value).strip().lower().removesuffix(".0")) for value in frame[label]]
    if None in labels:
        position = labels.index(None)
        raise DataError(
            f"{where}, {place.format(position + 1)}: unknown {label} "
            f"{frame[label].iloc[position]!r}. Remedy: use one of {', '.join(LABELS)}."
        )
    out = pd.DataFrame({"text": frame[text].map(clean_text), "label": labels})
    group = next((name for name in GROUP_COLUMNS if name in frame), None)
    return out.assign(document=frame[group].astype(str).values if group else _own_document(out, where))


def _own_document(frame: pd.DataFrame, where: str | Path) -> list[str]:
    return [f"{where} row {n}" for n in range(len(frame))]


def _pick(frame: pd.DataFrame, names: tuple[str, ...], where: str) -> str:
    for name in names:
        if name in frame:
            return name
    raise DataError(
        f"{where} has no column {' or '.join(names)}; it has {', '.join(map(str, frame.columns))}. "
        f"Remedy: rename the column to {names[0]}."
    )


def _drop_duplicates(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Without rows whose words stand elsewhere; of two, the one in test stays, then validation's."""
    key = frame["text"].str.lower().str.replace(r"\W+", " ", regex=True).str.strip()
    order = frame["split"].map({"test": 0, "validation": 1}).fillna(2)
    first = frame.assign(key=key, order=order).sort_values("order", kind="stable").drop_duplicates("key")
    kept = frame.loc[first.index.sort_values()]
    return kept.reset_index(drop=True), len(frame) - len(kept)


def _check_classes(frame: pd.DataFrame, names: list[str], source: str | Path, least: int) -> None:
    counts = {name: int((frame["label"] == name).sum()) for name in names}
    if min(counts.values()) < least:
        raise DataError(
            f"{source} has {' and '.join(f'{n} {name}' for name, n in counts.items())} rows; each class "
            f"needs at least {least}. Remedy: add rows (and documents) of the missing class."
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
            _check_classes(rest, names, "What is left for training", least=2)
            parts[name], rest = _cut(rest, max(2, min(rows or len(frame), len(frame) // 5)), seed)
    return {"train": rest, "validation": parts["validation"], "test": parts["test"]}


def _cut(frame: pd.DataFrame, rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`rows` rows (about that many where documents must stay whole), stratified by label; the rest."""
    if frame["document"].is_unique:
        rest, part = train_test_split(frame, test_size=rows, stratify=frame["label"], random_state=seed)
        return part, rest
    folds = StratifiedGroupKFold(max(2, round(len(frame) / rows)), shuffle=True, random_state=seed)
    keep, cut = next(folds.split(frame, frame["label"], frame["document"]))
    return frame.iloc[cut].sample(frac=1, random_state=seed), frame.iloc[keep]  # no document first


def _to_dataset(frame: pd.DataFrame, names: list[str]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({c: frame[c].tolist() for c in ("text", "label")}, features=features)

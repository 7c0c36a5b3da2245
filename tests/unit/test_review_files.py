"""Reviews of a reader's own: columns, labels, folders, and what is said about them."""

import json
import random
import re
import time

import pandas as pd
import pytest
from mutations import count_mutations, mutate

from lessons_lib import data
from lessons_lib.data import labels, reviews
from lessons_lib.data.rows import Rows
from lessons_lib.data.sources import hub
from lessons_lib.errors import CourseError, DataError

LOVELY = [f"A lovely film, number {n}" for n in range(12)]
DULL = [f"A dull film, number {n}" for n in range(12)]
PLAIN = [f"A film, number {n}" for n in range(12)]


def make_rows(positive, negative, neutral=None):
    rows = [(text, positive) for text in LOVELY] + [(text, negative) for text in DULL]
    return rows if neutral is None else rows + [(text, neutral) for text in PLAIN]


def write(path, rows, header="text,label"):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f'"{text}",{label}' for text, label in rows]
    path.write_text("\n".join([header, *lines] if header else lines), encoding="utf-8")
    return path


def load(path, **options):
    return data.load_reviews(path, validation_rows=4, test_rows=4, **options)


def read_classes(splits):
    """The class of each text, over all parts."""
    classes = {}
    for part in splits.values():
        names = part.features["label"].names
        classes |= {row["text"]: names[row["label"]] for row in part}
    return classes


def check_classes(splits, rows=24):
    classes = read_classes(splits)
    assert len(classes) == rows
    for text, name in classes.items():
        assert name == (
            "positive" if "lovely" in text else "negative" if "dull" in text else "neutral"
        )


# --- labels ---------------------------------------------------------------------------------------

SCALES = {  # positive, negative, neutral; the line that the error proposes
    "stars": ((5, 1, 3), "1=negative,3=neutral,5=positive"),
    "stars in words": (("5 stars", "1 star", "3 stars"), "1=negative,3=neutral,5=positive"),
    "stars as signs": (("★★★★★", "★☆☆☆☆", "★★★☆☆"), "1=negative,3=neutral,5=positive"),
    "minus": ((1, -1, 0), "-1=negative,0=neutral,1=positive"),
    "minus sign": ((1, "−1", 0), "-1=negative,0=neutral,1=positive"),
    "floats": ((1.0, -1.0, 0.0), "-1=negative,0=neutral,1=positive"),
    "ten": ((10, 1, 5), "1=negative,5=neutral,10=positive"),
    "tweets": ((4, 0, 2), "0=negative,2=neutral,4=positive"),
    "three codes": ((2, 0, 1), "0=?,1=?,2=?"),
    "two codes": ((2, 1, None), "1=?,2=?"),
    "fastText": (("__label__2", "__label__1", None), "1=?,2=?"),
    "booleans": ((True, False, None), "false=?,true=?"),
    "words": (("very positive", "very negative", "mixed"), "mixed=?,very negative=negative"),
    "good and bad": (("good", "bad", None), "bad=?,good=?"),
}


@pytest.mark.parametrize("scale", SCALES)
def test_codes_are_asked_for_and_read_as_stated(tmp_path, scale, monkeypatch):
    """Failing means a number's class is guessed, or the line to state it is not the one that
    works.
    """
    codes, line = SCALES[scale]
    path = write(tmp_path / "mine.csv", make_rows(*codes))
    with pytest.raises(DataError) as caught:
        load(path)
    assert f'LABELS="{line}' in caught.value.remedy
    assert '(12 rows, such as "A ' in str(caught.value)
    proposed = re.search(r'LABELS="(.*)"', caught.value.remedy).group(1)
    by_code = dict(
        zip(map(labels.read_label, codes), ("positive", "negative", "neutral"), strict=True)
    )
    filled = re.sub(r"([^,=]+)=\?", lambda match: f"{match[1]}={by_code[match[1]]}", proposed)
    monkeypatch.setenv("LESSONS_LABELS", filled)
    check_classes(load(path, neutral=True), 24 if codes[2] is None else 36)


@pytest.mark.parametrize("positive", [1, "1", "1.0", "positive", " POS ", "Pos"])
def test_usual_labels_need_no_statement(tmp_path, positive):
    """Failing means everyday files are refused."""
    negative = {"1": "0", "1.0": "0.0"}.get(str(positive), "Negative")
    check_classes(load(write(tmp_path / "mine.csv", make_rows(positive, negative))))


def test_neutral_has_a_short_name(tmp_path):
    """Failing means `neu` is unknown, and whoever renames it makes neutral something else."""
    check_classes(
        load(write(tmp_path / "mine.csv", make_rows("pos", "neg", "Neu")), neutral=True), 36
    )


def test_classes_are_printed_with_examples(tmp_path, capsys):
    """Failing means labels that mean the opposite are trained on without a sign of it."""
    load(write(tmp_path / "mine.csv", make_rows(0, 1)))
    printed = capsys.readouterr().out
    assert '0 → negative (12 rows, such as "A lovely film' in printed
    assert '1 → positive (12 rows, such as "A dull film' in printed
    assert "UTF-8, comma-separated" in printed


def test_a_stated_meaning_of_0_and_1_counts(tmp_path, monkeypatch):
    """Failing means a file in which 1 is negative cannot be read."""
    path = write(tmp_path / "mine.csv", make_rows(0, 1))
    check_classes(load(path, labels={0: "positive", 1: "negative"}))
    monkeypatch.setenv("LESSONS_LABELS", "0=pos,1=neg")
    check_classes(load(path))
    assert read_classes(data.load_reviews("samples", validation_rows=20, test_rows=20))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ('text,"label (0=positive, 1=negative)"', '"{text}",{code}'),
        ("text,label,label_text", '"{text}",{code},{name}'),
    ],
)
def test_a_file_that_names_its_codes_is_believed(tmp_path, header, row):
    """Failing means 0 is negative although the file says otherwise."""
    lines = [row.format(text=text, code=0, name="positive") for text in LOVELY]
    lines += [row.format(text=text, code=1, name="negative") for text in DULL]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([header, *lines]))
    check_classes(load(path))


def test_names_beside_a_json_list_are_believed(tmp_path):
    """Failing means `label_names` is ignored and every class is inverted."""
    rows = [{"text": text, "label": 1 - label} for text, label in make_rows(1, 0)]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"label_names": ["positive", "negative"], "rows": rows}))
    check_classes(load(path))


@pytest.mark.parametrize("column", ["stars", "Rating", "score", "star_rating"])
def test_ratings_of_0_and_1_are_asked_for(tmp_path, column):
    """Failing means a count of votes is taken for a class."""
    with pytest.raises(DataError, match="LABELS"):
        load(write(tmp_path / "mine.csv", make_rows(1, 0), header=f"text,{column}"))


def test_a_slip_in_one_label_is_named_with_its_row(tmp_path):
    """Failing means a typo in one of 5,000 rows cannot be found."""
    path = write(tmp_path / "mine.csv", [*make_rows("pos", "neg"), ("Odd", "postive")])
    with pytest.raises(DataError, match="line 26: unknown label 'postive'") as caught:
        load(path)
    assert caught.value.remedy.startswith("mend these rows")


def test_a_column_of_many_values_is_no_label(tmp_path):
    """Failing means a reader is asked to name the class of each of 24 numbers."""
    rows = [(text, n / 7) for n, (text, _) in enumerate(make_rows(1, 0))]
    with pytest.raises(DataError, match="24 different values"):
        load(write(tmp_path / "mine.csv", rows))


@pytest.mark.parametrize(
    "text", ["", "1", "1=", "=negative", "1=good", "1=?", "1=pos,1=neg", "1=pos,2", ",", "=="]
)
def test_bad_statements_are_refused(text):
    """Failing means a slip in LABELS is ignored, and the labels are read some other way."""
    with pytest.raises(CourseError) as caught:
        labels.parse_labels(text)
    assert caught.value.remedy


def test_statements_may_group_labels_and_leave_some_out():
    """Failing means five stars need five equals signs, or unwanted labels a new file."""
    mapping = labels.parse_labels("1,2=neg, 3 = Neutral;4 stars,5=positive,n/k=out")
    assert mapping == {
        "1": "negative",
        "2": "negative",
        "3": "neutral",
        "4": "positive",
        "5": "positive",
        "n/k": "out",
    }


def test_labels_stated_as_out_are_left_out(tmp_path, capsys):
    """Failing means rows of no interest become a class."""
    path = write(tmp_path / "mine.csv", make_rows("pos", "neg", "irrelevant"))
    check_classes(load(path, labels={"irrelevant": "out"}))
    assert "irrelevant → left out (12 rows" in capsys.readouterr().out


# --- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "reviewText,label",
        "Review Text,Sentiment",
        "content,polarity",
        "Tweet,class",
        "Phrase,label",
    ],
)
def test_more_column_names_are_known(tmp_path, header):
    """Failing means a reader must rename columns that well-known data sets use."""
    check_classes(load(write(tmp_path / "mine.csv", make_rows(1, 0), header=header)))


def test_other_candidates_are_named(tmp_path, capsys):
    """Failing means a file's summary is trained on, and nobody sees that there was a text."""
    lines = [f'Short,"{text}",{label}' for text, label in make_rows(1, 0)]
    (tmp_path / "mine.csv").write_text("\n".join(["headline,text,label", *lines]))
    check_classes(load(tmp_path / "mine.csv"))
    assert "also there: headline" in capsys.readouterr().out


@pytest.mark.parametrize(
    "row", ["{code}\t{text}", "{text}\t{code}", "{code}\t{n}\tno query\t{text}"]
)
def test_tables_without_a_header_are_read(tmp_path, row, capsys):
    """Failing means the first review is taken for the columns' names, or the file is refused."""
    lines = [
        row.format(text=text, code=code, n=n) for n, (text, code) in enumerate(make_rows(1, 0))
    ]
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    check_classes(load(tmp_path / "mine.txt"))
    assert "no header" in capsys.readouterr().out


def test_a_column_called_split_splits(tmp_path):
    """Failing means a publisher's own test rows are trained on."""
    rows = [
        (text, f"{label},{'dev' if n % 3 else 'train'}")
        for n, (text, label) in enumerate(make_rows(1, 0))
    ]
    splits = load(write(tmp_path / "mine.csv", rows, header="text,label,split"))
    assert len(splits["train"]) + len(splits["test"]) == 8


def test_numbers_are_no_texts(tmp_path):
    """Failing means a column of ids is trained on."""
    with pytest.raises(DataError, match="holds numbers"):
        load(write(tmp_path / "mine.csv", [(n, n % 2) for n in range(20)]))


def test_rows_without_text_or_label_are_left_out_aloud(tmp_path, capsys):
    """Failing means `nan` is trained on, or one empty cell stops a file of thousands."""
    empty = [("", 1), ("nan", 0), ("<br>", 1), ("No label", ""), ("None there", "NaN")]
    check_classes(load(write(tmp_path / "mine.csv", make_rows(1, 0) + empty)))
    printed = capsys.readouterr().out
    assert "3 rows left out: no text (line 26, line 27, line 28)" in printed
    assert "2 rows left out: no label (line 29, line 30)" in printed


# --- equal texts ----------------------------------------------------------------------------------


def test_texts_with_two_labels_are_left_out_aloud(tmp_path, capsys):
    """Failing means the label that happens to stand first decides."""
    rows = [*make_rows(1, 0), (LOVELY[0].upper() + "!", 0), (DULL[3], 0)]
    classes = read_classes(load(write(tmp_path / "mine.csv", rows)))
    assert LOVELY[0] not in classes
    assert len(classes) == 23
    printed = capsys.readouterr().out
    assert "1 text with two labels left out (2 rows)" in printed
    assert "1 duplicates dropped" in printed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("😀", "😡"),
        ("great 😀", "great 😡"),
        (":)", ":("),
        ("ดี", "ดู"),
        ("कि", "की"),
        ("很好", "不好"),
        ("niña", "nina"),
        ("👍🏻", "👍🏿"),
    ],
)
def test_different_texts_are_no_duplicates(one, other):
    """Failing means texts without Latin letters vanish as duplicates of each other."""
    assert reviews.make_key(one) != reviews.make_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Same text!", "same  text"),
        ("caf\u00e9", "cafe\u0301"),
        ("❤️", "❤"),
        ("ｆｕｌｌ", "full"),
        ("...", "!"),
        (":)", ":)!!"),
    ],
)
def test_equal_texts_are_duplicates(one, other):
    """Failing means a text stands on two sides of the split."""
    assert reviews.make_key(one) == reviews.make_key(other)


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("pos", "neg"), ("Positive", "NEGATIVE"), ("Pos", "Neg")])
@pytest.mark.parametrize("above", ["", "train", "data/raw"])
def test_class_folders_are_read(tmp_path, names, above, capsys):
    """Failing means a folder's capitals decide whether its reviews are found; or a Mac's files are
    read.
    """
    for name, texts in zip(names, (LOVELY, DULL), strict=True):
        folder = tmp_path / above / name
        mac = tmp_path / "__MACOSX" / above / name
        folder.mkdir(parents=True)
        mac.mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / f"{number}.txt").write_text(text)
            (mac / f"._{number}.txt").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (tmp_path / "unsup").mkdir()
    (tmp_path / "unsup" / "0.txt").write_text("No class")
    check_classes(load(tmp_path))
    printed = capsys.readouterr().out
    assert "24 files (in __MACOSX)" in printed
    assert "1 .txt beside them" in printed


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.csv", "test.csv"),
        ("Train.csv", "SST-test.csv"),
        ("data/train-00000-of-00001.csv", "data/test-00000-of-00001.csv"),
        ("train/part.csv", "test/part.csv"),
    ],
)
def test_names_of_files_tell_the_split(tmp_path, train, test):
    """Failing means a publisher's own test rows are trained on."""
    write(tmp_path / train, make_rows(1, 0))
    write(tmp_path / test, [(f"Test: {text}", label) for text, label in make_rows(1, 0)])
    splits = data.load_reviews(tmp_path, validation_rows=4, test_rows=0)
    assert len(splits["test"]) == 24
    assert all(text.startswith("Test:") for text in splits["test"]["text"])


UNLABELLED = {
    "no column": ("index,sentence", [(0, "Unlabelled")]),
    "-1": ("text,label", [(text, -1) for text in PLAIN]),
    "empty": ("text,label", [(text, "") for text in PLAIN]),
}


@pytest.mark.parametrize("kind", UNLABELLED)
def test_a_file_without_labels_is_left_out_aloud(tmp_path, kind, capsys):
    """Failing means a benchmark's folder is refused for the labels that its publisher keeps."""
    header, rows = UNLABELLED[kind]
    write(tmp_path / "train.csv", make_rows(1, 0))
    write(tmp_path / "test.csv", rows, header=header)
    check_classes(load(tmp_path))
    assert "left out: test.csv (no" in capsys.readouterr().out


def test_other_files_of_a_folder_are_counted(tmp_path, capsys):
    """Failing means settings of a program stop a folder, or files are ignored without a word."""
    write(tmp_path / "reviews.csv", make_rows(1, 0))
    for name, content in {
        "package.json": "{}",
        "tsconfig.json": "{ // x\n}",
        "a.pdf": "x",
        "b.PDF": "x",
    }.items():
        (tmp_path / name).write_text(content)
    check_classes(load(tmp_path))
    printed = capsys.readouterr().out
    assert "package.json" in printed
    assert "2 .pdf beside them" in printed


def test_a_damaged_table_of_a_folder_is_refused(tmp_path):
    """Failing means half of the reviews are missing for one open quote."""
    write(tmp_path / "a.csv", make_rows(1, 0))
    (tmp_path / "b.csv").write_text('text,label\n"open, 1\n')
    with pytest.raises(DataError, match="line 2"):
        load(tmp_path)


def test_one_document_alone_is_refused(tmp_path):
    """Failing means a column called document with one value ends in a library's traceback."""
    rows = [(text, f"{label},one") for text, label in make_rows(1, 0)]
    with pytest.raises(DataError, match="one document"):
        load(write(tmp_path / "mine.csv", rows, header="text,label,document"))


def test_addresses_are_no_files(tmp_path):
    """Failing means an address of the web "does not exist"."""
    with pytest.raises(DataError, match="is an address"):
        load("https://example.org/reviews.csv")


def test_contradictions_of_the_hub_are_said_and_kept(monkeypatch, capsys):
    """Failing means published rows change, or nobody hears of their contradictions."""
    rows = [*make_rows("pos", "neg"), (DULL[0], "pos")]
    objects = pd.DataFrame(rows, columns=["text", "label"]).to_dict("records")
    read = Rows(objects, [f"row {number}" for number in range(len(objects))], [])
    monkeypatch.setattr(reviews, "read_hub", lambda name: {"train": read})
    check_classes(load("somebody/sentiment"))
    assert "1 text with two labels: one of them counts" in capsys.readouterr().out


def test_a_hub_set_without_known_splits_is_refused(monkeypatch):
    """Failing means an odd data set ends in a traceback."""
    monkeypatch.setattr(hub, "load_dataset", lambda name: {"everything": None})
    with pytest.raises(DataError, match="none of the splits"):
        load("somebody/odd")


# --- damage ---------------------------------------------------------------------------------------

FUZZED = {
    "mine.csv": "text,label\n"
    + "".join(f'"{text}, “é” 😀",{label}\n' for text, label in make_rows(1, 0)),
    "mine.tsv": "sentence\tlabel\n"
    + "".join(f"{text}\t{label}\n" for text, label in make_rows(1, 0)),
    "mine.json": json.dumps(
        [{"text": text, "label": label} for text, label in make_rows("pos", "neg")]
    ),
    "mine.jsonl": "\n".join(
        json.dumps({"review": text, "stars": n}) for text, n in make_rows(5, 1)
    ),
    "mine.txt": "".join(f"{text}@{label}\r\n" for text, label in make_rows("positive", "negative")),
    "mine.ft.txt": "".join(f"__label__{label} {text}\n" for text, label in make_rows("pos", "neg")),
}


def build_fuzzed(name, folder):
    """The bytes of a file that can be read."""
    if name in FUZZED:
        return FUZZED[name].encode()
    path = folder / f"whole-{name}"
    frame = pd.DataFrame(make_rows(1, 0), columns=["text", "label"])
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path.read_bytes()


@pytest.mark.parametrize("name", [*FUZZED, "mine.parquet", "mine.csv.gz"])
def test_damaged_files_are_read_or_refused(tmp_path, name):
    """Failing means a damaged file ends in a traceback, in an error without a remedy, or takes for
    ever.
    """
    whole = build_fuzzed(name, tmp_path)
    chance = random.Random(0)
    path = tmp_path / name
    for _ in range(count_mutations(25)):
        path.write_bytes(mutate(whole, chance))
        started = time.process_time()
        try:
            for part in load(path).values():
                "".join(part["text"]).encode("utf-8")
        except CourseError as error:
            assert error.remedy, error
            str(error).encode("utf-8")
        assert time.process_time() - started < 1

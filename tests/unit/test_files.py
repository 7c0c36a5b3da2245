"""Files of a reader's own: from bytes to rows, whatever wrote them."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import zipfile

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from lessons_lib import data
from lessons_lib.data.files import count_endings, list_files, read_rows, read_text
from lessons_lib.errors import DataError

PAIRS = [(f"A {'lovely' if n % 2 else 'dull'} film, number {n}", n % 2) for n in range(20)]
OBJECTS = [{"text": text, "label": label} for text, label in PAIRS]
CSV = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in PAIRS)


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def read_pairs(path):
    return [(row["text"], int(row["label"])) for row in read_rows(path).objects]


def refuse(path):
    """The error of a file, after a look at what every error must have."""
    with pytest.raises(DataError) as caught:
        read_rows(path)
    message = str(caught.value)
    assert caught.value.remedy
    assert str(path) in message
    assert all(char.isprintable() or char == "\n" for char in message)
    return message


# --- encodings ------------------------------------------------------------------------------------

LANGUAGES = {
    "cp1252": "Très bon film, j’ai adoré l’été à Nîmes.",
    "mac_roman": "Très bon film, j’ai adoré l’été à Nîmes.",
    "cp1250": "Świetny film, bardzo mi się podobał, żałuję końca.",
    "cp1251": "Отличный фильм, очень понравилось мне и детям.",
    "koi8_r": "Отличный фильм, очень понравилось мне и детям.",
    "cp1253": "Πολύ καλή ταινία, μου άρεσε πάρα πολύ.",
    "cp1254": "Çok güzel bir film, şiddetle tavsiye ederim, iğrenç değil.",
    "cp1255": "סרט מצוין, נהניתי מאוד מכל רגע.",
    "cp1256": "فيلم رائع، أعجبني كثيرا جدا.",
    "cp874": "หนังดีมาก ชอบมาก ดูอีกครั้ง",
    "gb18030": "房间很好，下次还会再来，服务态度也不错。",
    "big5": "房間很好，下次還會再來，服務態度也不錯。",
    "cp932": "とても良い映画でした。また見たいです。",
    "euc_jp": "とても良い映画でした。また見たいです。",
    "cp949": "정말 재미있는 영화였어요. 다시 보고 싶어요.",
    "iso2022_jp": "とても良い映画でした。また見たいです。",
}
WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig")


@pytest.mark.parametrize("encoding", LANGUAGES)
def test_older_encodings_are_recognised_and_named(tmp_path, encoding):
    """Failing means a student trains on garbled letters, or is not told which encoding was
    taken.
    """
    text = read_text(write(tmp_path / "mine.txt", LANGUAGES[encoding] * 3, encoding))
    assert text.text == LANGUAGES[encoding] * 3
    assert text.replaced == 0
    assert "not UTF-8" in text.encoding


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("language", ["cp1252", "gb18030"])
def test_wide_encodings_are_read_with_and_without_their_mark(tmp_path, encoding, language):
    """Failing means a Windows program's "Unicode" export is garbled or refused."""
    lines = f"{LANGUAGES[language]},1\n" * 4
    assert read_text(write(tmp_path / "mine.txt", lines, encoding)).text == lines


def test_one_bad_byte_costs_one_character(tmp_path):
    """Failing means one damaged byte turns every accent of a UTF-8 file into garbage."""
    raw = "Un été à Nîmes, café, thé.\n".encode() * 10 + b"caf\xe9 cr\xc3\xa8me\n"
    text = read_text(write(tmp_path / "mine.txt", raw))
    assert text.text.count("été") == 10
    assert "caf\ufffd crème" in text.text
    assert text.replaced == 1
    assert "1 unreadable place" in " ".join(text.notes)


@pytest.mark.parametrize("half", [b"\xed\xa0\xbd", b"\xf0\x9f\x98"])
def test_half_an_emoji_is_replaced_in_bytes(tmp_path, half):
    """Failing means a text cut inside an emoji makes its whole file garbled."""
    text = read_text(write(tmp_path / "mine.csv", b"text,label\nfine " + half + b",1\nok,0\n"))
    assert text.text == "text,label\nfine \ufffd,1\nok,0\n"
    assert (text.encoding, text.replaced) == ("UTF-8", 1)


@pytest.mark.parametrize("encoding", ["cp037", "cp500"])
def test_bytes_that_make_no_words_are_refused(tmp_path, encoding):
    """Failing means an unknown encoding is read as if it were a known one."""
    message = refuse(write(tmp_path / "mine.csv", CSV, encoding))
    assert "UTF-8" in message


def test_few_nuls_are_left_out_and_counted(tmp_path):
    """Failing means NUL characters reach the tokenizer, or end in an error without a reason."""
    text = read_text(write(tmp_path / "mine.csv", CSV.replace("film", "film\0", 2)))
    assert text.text == CSV
    assert text.left_out == 2


# --- what a file is ------------------------------------------------------------------------------


def make_zip(member):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, "x")
    return stream.getvalue()


OTHER_KINDS = {
    "ZIP archive": make_zip("reviews.csv"),
    "Excel": make_zip("xl/workbook.xml"),
    "Word": make_zip("word/document.xml"),
    "PDF": b"%PDF-1.7\n%\xe2\xe3",
    "SQLite": b"SQLite format 3\0" + bytes(84),
    "old Office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(90),
    "pickle": pickle.dumps(PAIRS),
    "image": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(20),
    "7z": b"7z\xbc\xaf'\x1c\0\4",
    "zstd": b"\x28\xb5\x2f\xfd\x04\x58",
    "tar": b"reviews.csv".ljust(257, b"\0") + b"ustar\x0000",
    "Mac's note": b"\0\5\x16\7\0\2\0\0Mac OS X",
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "web page": b"\n<!DOCTYPE html>\n<html><head></head></html>",
    "XML": b'<?xml version="1.0"?><reviews><review>x</review></reviews>',
    "binary": bytes(range(1, 255)) * 4 + b"\x1b[31m",
    "damaged gzip": gzip.compress(CSV.encode())[:50],
    "damaged: Parquet": b"PAR1 and nothing more",
    "is empty": b"\xef\xbb\xbf \n",
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("ending", [".csv", ".json", ".txt"])
def test_other_kinds_of_files_are_named(tmp_path, kind, ending):
    """Failing means bytes of an archive or image are read as reviews, or printed to the
    terminal.
    """
    message = refuse(write(tmp_path / f"mine{ending}", OTHER_KINDS[kind]))
    assert all(word in message for word in kind.removeprefix("damaged: ").split(": "))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["mine.csv.gz", "mine.csv"])
def test_packed_tables_are_read(tmp_path, pack, name):
    """Failing means a packed table must be unpacked by hand, or its bytes become column names."""
    assert read_pairs(write(tmp_path / name, pack(CSV.encode()))) == PAIRS


@pytest.mark.parametrize("name", ["mine.parquet", "mine.csv"])
def test_parquet_is_read_whatever_its_ending(tmp_path, name):
    """Failing means the Hub's own files are refused."""
    pd.DataFrame(OBJECTS).to_parquet(tmp_path / name)
    assert read_pairs(tmp_path / name) == PAIRS


@pytest.mark.parametrize("splits", [True, False])
def test_saved_datasets_give_their_labels_names(tmp_path, splits):
    """Failing means `save_to_disk` folders are refused, or their numbers lose the names beside
    them.
    """
    features = Features({"text": Value("string"), "label": ClassLabel(names=["pos", "neg"])})
    dataset = Dataset.from_list(
        [{"text": "Lovely", "label": 0}, {"text": "?", "label": -1}], features
    )
    saved = DatasetDict({"train": dataset}) if splits else dataset
    saved.save_to_disk(tmp_path / "saved")
    assert [row["label"] for row in read_rows(tmp_path / "saved").objects] == ["pos", None]
    (arrow,) = (tmp_path / "saved").glob("**/*.arrow")
    assert [row["label"] for row in read_rows(arrow).objects] == ["pos", None]


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_separators_are_recognised_by_all_rows(tmp_path, separator, ending, line_end):
    """Failing means a table from another country, or with another ending, is one column."""
    rows = [f'"{text}"{separator}{label}' for text, label in PAIRS]
    content = line_end.join([f"text{separator}label", *rows])
    assert read_pairs(write(tmp_path / f"mine{ending}", content)) == PAIRS


def test_named_separator_is_no_header(tmp_path):
    """Failing means Excel's first line, sep=;, is taken for the columns' names."""
    path = write(tmp_path / "mine.csv", "sep=;\r\ntext;label\r\n" + "a, b;1\r\n")
    assert read_rows(path).objects == [{"text": "a, b", "label": "1"}]
    assert read_rows(path).places == [f"{path}, line 3"]


@pytest.mark.parametrize("label_first", [True, False])
@pytest.mark.parametrize("closing", ["", '" he said', '"'])
def test_quotes_in_tab_separated_files_are_characters(tmp_path, label_first, closing):
    """Failing means a text that begins with a quote swallows the rows after it."""
    texts = [f'"film{closing} {n}' if n % 5 == 0 else f"film {n}" for n in range(20)]
    texts[7] += '"'
    columns = ("label", "text") if label_first else ("text", "label")
    lines = [
        "\t".join((str(n % 2), text) if label_first else (text, str(n % 2)))
        for n, text in enumerate(texts)
    ]
    rows = read_rows(write(tmp_path / "mine.tsv", "\n".join(["\t".join(columns), *lines])))
    assert [row["text"] for row in rows.objects] == texts
    assert "quotes read as characters" in rows.notes


@pytest.mark.parametrize("separator", [",", "\t"])
def test_true_quoting_is_undone(tmp_path, separator):
    """Failing means texts over several lines, or with quotes, come out cut or with doubled
    quotes.
    """
    texts = [
        'two\nlines, and "quotes"',
        f"a {separator} b",
        'begins "so" and ends "so"',
        "plain",
    ] * 3
    path = tmp_path / "mine.csv"
    pd.DataFrame({"text": texts, "label": 1}).to_csv(path, sep=separator, index=False)
    assert [row["text"] for row in read_rows(path).objects] == texts


def test_backslashes_before_quotes_are_read(tmp_path):
    """Failing means a database's export is refused."""
    path = write(tmp_path / "mine.csv", 'text,label\n"so \\"fine\\", he said",1\n"b, c",0\n')
    assert [row["text"] for row in read_rows(path).objects] == ['so "fine", he said', "b, c"]


@pytest.mark.parametrize("columns", [("label", "text"), ("text", "label"), ("id", "label", "text")])
@pytest.mark.parametrize("longest", ["first", "last"])
def test_unquoted_commas_belong_to_the_text(tmp_path, columns, longest):
    """Failing means texts end at their first comma, without a word."""
    texts = ["It is fine", "Funny, sad, tender, and over", "Not, good"]
    if longest == "last":
        texts.reverse()
    rows = [{"label": "1", "id": str(n), "text": text} for n, text in enumerate(texts)]
    lines = [",".join(row[name] for name in columns) for row in rows]
    read = read_rows(write(tmp_path / "mine.csv", "\n".join([",".join(columns), *lines])))
    assert [row["text"] for row in read.objects] == texts
    assert "2 rows" in " ".join(read.notes)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("title,text,label\nThe film,Good, bad,1\nThe film,Good one,0\n", "line 2: 4 fields"),
        ('text,label\n"Not closed, 1\nfine one,0\n', "line 2: could not be read"),
        ('text,label\n"He said "so, so" twice",1\nfine one,0\n', "line 2: could not be read"),
    ],
)
def test_rows_that_can_be_read_in_two_ways_are_refused(tmp_path, content, place):
    """Failing means fields are dropped or shifted without a word."""
    assert place in refuse(write(tmp_path / "mine.csv", content))


def test_all_bad_rows_are_named_at_once(tmp_path):
    """Failing means a reader mends a file of ten bad rows in ten runs."""
    bad = "The film,Good, bad,1\n"
    message = refuse(
        write(tmp_path / "mine.csv", "title,text,label\nThe film,Good one,1\n" + bad * 7)
    )
    assert "line 3" in message
    assert "and 2 more" in message


@pytest.mark.parametrize("header", ["id,text,label", "text,label,"])
def test_indexes_and_empty_ends_are_no_surplus(tmp_path, header):
    """Failing means R's row names shift all columns, or a separator at the line's end is an
    error.
    """
    row = '{n},"{text}",{label}' if header.startswith("id") else '"{text}",{label},'
    lines = [row.format(n=n, text=text, label=label) for n, (text, label) in enumerate(PAIRS)]
    for first in (header, header.removeprefix("id,")):
        assert read_pairs(write(tmp_path / "mine.csv", "\n".join([first, *lines]))) == PAIRS


def test_places_are_the_files_own_lines(tmp_path):
    """Failing means an error sends the reader to the wrong line: texts may hold line breaks."""
    path = write(tmp_path / "mine.csv", 'text,label\n\n"a\nb",1\n\nc,0\n')
    assert read_rows(path).places == [f"{path}, line 3", f"{path}, line 6"]


def test_long_fields_are_read(tmp_path):
    """Failing means a text of a novel's length ends in the csv module's limit."""
    path = write(tmp_path / "mine.csv", f'text,label\n"{"word " * 100_000}",1\n')
    assert len(read_rows(path).objects[0]["text"]) == 500_000


# --- lines and JSON -------------------------------------------------------------------------------


def test_lines_of_fasttext_are_read(tmp_path):
    """Failing means fastText's training files are refused."""
    path = write(tmp_path / "mine.ft.txt", "__label__2 Fine, all of it\n\n__label__1 Dull\n")
    assert read_rows(path).objects == [
        {"label": "2", "text": "Fine, all of it"},
        {"label": "1", "text": "Dull"},
    ]


JSON_LAYOUTS = {
    "list": OBJECTS,
    "under a key": {"version": 1, "data": OBJECTS},
    "nested": {"dataset": {"reviews": OBJECTS}},
    "columns": {"text": [text for text, _ in PAIRS], "label": [label for _, label in PAIRS]},
    "pandas": json.loads(pd.DataFrame(OBJECTS).to_json()),
    "pandas index": json.loads(pd.DataFrame(OBJECTS).to_json(orient="index")),
    "pandas split": json.loads(pd.DataFrame(OBJECTS).to_json(orient="split")),
    "pandas table": json.loads(pd.DataFrame(OBJECTS).to_json(orient="table")),
    "lists": [["text", "label"], *PAIRS],
    "names": {"label_names": ["0", "1"], "rows": OBJECTS},
}


@pytest.mark.parametrize("layout", JSON_LAYOUTS)
@pytest.mark.parametrize("ending", [".json", ".jsonl", ".txt"])
def test_layouts_of_json_are_recognised(tmp_path, layout, ending):
    """Failing means a file that holds the rows is refused for how it holds them."""
    assert read_pairs(write(tmp_path / f"mine{ending}", json.dumps(JSON_LAYOUTS[layout]))) == PAIRS


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv"])
def test_objects_one_after_another_are_read(tmp_path, indent, ending):
    """Failing means "Extra data" for a file that a line reader takes."""
    content = "\n\n".join(json.dumps(row, indent=indent) for row in OBJECTS)
    assert read_pairs(write(tmp_path / f"mine{ending}", content)) == PAIRS


def test_all_bad_json_lines_are_named_at_once(tmp_path):
    """Failing means only the first of several bad lines is named."""
    lines = [json.dumps(row) for row in OBJECTS]
    lines[3], lines[8] = "{oops}", lines[8][:-4]
    message = refuse(write(tmp_path / "mine.jsonl", "\n".join(lines)))
    assert "line 4" in message
    assert "line 9" in message


def test_halves_of_emoji_are_replaced_and_counted(tmp_path):
    """Failing means the tokenizer's traceback ends a run long after the file was read."""
    rows = [{"text": "cut \\ud83d here", "more": ["\\ude00"]}, {"text": "whole \\ud83d\\ude00"}]
    path = write(
        tmp_path / "mine.jsonl", "\n".join(json.dumps(row) for row in rows).replace("\\\\u", "\\u")
    )
    read = read_rows(path)
    assert read.objects[0] == {"text": "cut \ufffd here", "more": ["\ufffd"]}
    assert read.objects[1] == {"text": "whole 😀"}
    assert "1 row with half an emoji" in " ".join(read.notes)


def test_nan_is_missing(tmp_path):
    """Failing means the word nan is trained on."""
    path = write(tmp_path / "mine.json", '[{"text": NaN, "label": -Infinity}]')
    assert read_rows(path).objects == [{"text": None, "label": None}]


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 100_000, '{"a": 1', "[1, 2]", '{"a": {}}', "[]"]
)
def test_json_without_rows_is_refused(tmp_path, content):
    """Failing means a traceback, or a crash of Python, for a damaged file."""
    refuse(write(tmp_path / "mine.json", content))


# --- folders and access ---------------------------------------------------------------------------


def test_files_of_programs_are_skipped_and_counted(tmp_path):
    """Failing means packages' files, a Mac's notes or caches are read as data."""
    names = [
        "a.csv",
        "sub/b.txt",
        ".hidden",
        ".git/config",
        "__MACOSX/a.csv",
        "node_modules/x/y.json",
    ]
    for name in [*names, "env/pyvenv.cfg", "env/lib/z.py", "~$a.docx"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "note.csv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "dead.csv").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    listing = list_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in listing.files] == [
        "a.csv",
        "sub/b.txt",
    ]
    assert sum(listing.skipped.values()) == 10
    assert "1 file (in node_modules)" in listing.describe_skipped()
    assert count_endings(listing.files) == "1 .csv, 1 .txt"


@pytest.mark.parametrize(
    "name", ["", "no.csv", "~nobody-here/a.csv", "a\0b.csv", "x" * 5000, "/dev/null"]
)
def test_paths_that_lead_nowhere_are_refused(name):
    """Failing means a slip in a path ends in a traceback, or waits for ever."""
    with pytest.raises(DataError) as caught:
        read_rows(name)
    assert caught.value.remedy


def test_files_without_rights_are_refused(tmp_path, monkeypatch):
    """Failing means a file of somebody else ends in a traceback."""

    def refuse_to_open(path):
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "mine.csv", CSV)
    monkeypatch.setattr(type(path), "read_bytes", refuse_to_open)
    assert "may not be read" in refuse(path)


@pytest.mark.parametrize("text", ["a<br>b", "a<br /><BR/>b", "a&lt;br /&gt;b", "a &#10; b"])
def test_breaks_become_spaces_even_when_escaped(text):
    """Failing means the model learns from tags."""
    assert data.clean_text(text) == "a b"


def test_endless_entities_are_left_alone():
    """Failing means one odd text ends in a traceback."""
    text = f"a &#{'9' * 5000}; b"
    assert data.clean_text(text) == text

"""A reader's own documents: every kind of file is read, or named with the reason why it is not."""

import gzip
import json
import os
import random
import time
import zipfile
from pathlib import Path

import pytest
from mutations import count_mutations, mutate

from lessons_lib.data import formats
from lessons_lib.data.documents import Passage, read_documents
from lessons_lib.data.formats import read_document
from lessons_lib.errors import CourseError, DataError

SENTENCE = "The boathouse key hangs behind the clock."
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
ODF = 'xmlns:office="urn:office" xmlns:text="urn:text"'
PDF = (
    b"%%PDF-1.4\n"
    b"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 100]/Contents 4 0 R"
    b"/Resources<</Font<</F 5 0 R>>>>>>endobj\n"
    b"4 0 obj<</Length %d>>stream\n%s\nendstream endobj\n"
    b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%%%EOF"
)


def make_pdf(drawing):
    return PDF % (len(drawing), drawing)


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_sample(path):
    """A small document of the kind that the path's ending says, with SENTENCE in it."""
    ending = path.suffix
    runs = "</w:t></w:r><w:r><w:t>".join([SENTENCE[:9], SENTENCE[9:]])
    run = f"<a:t>{SENTENCE}</a:t>"
    span = f"<text:span>{SENTENCE[4:]}</text:span>"
    archives = {
        ".docx": {"word/document.xml": f"<w:d {W}><w:p><w:r><w:t>{runs}</w:t></w:r></w:p></w:d>"},
        ".pptx": {"ppt/slides/slide1.xml": f"<x {A}><a:p><a:r>{run}</a:r></a:p></x>"},
        ".odt": {"content.xml": f"<x {ODF}><text:p>The {span}</text:p></x>"},
        ".epub": {"one.xhtml": f"<html><body><p>{SENTENCE}</p></body></html>"},
    }
    archives[".docm"] = archives[".docx"]
    archives[".odp"] = archives[".odt"]
    others = {
        ".pdf": make_pdf(f"BT /F 12 Tf 10 50 Td ({SENTENCE}) Tj ET".encode()),
        ".rtf": rb"{\rtf1\ansi " + SENTENCE.encode() + b"}",
        ".ipynb": json.dumps({"cells": [{"cell_type": "markdown", "source": [SENTENCE]}]}).encode(),
    }
    if ending in archives:
        write_zip(path, archives[ending])
    else:
        path.write_bytes(others.get(ending, SENTENCE.encode()))


@pytest.mark.parametrize("ending", formats.ENDINGS)
def test_every_kind_of_document_is_read(tmp_path, ending):
    """Failing means a kind of file that the course says it reads is not searched."""
    path = tmp_path / f"keys{ending}"
    write_sample(path)
    assert read_documents(path) == [Passage(f"keys{ending}", SENTENCE)]


def test_capitals_and_packing_of_endings_do_not_count(tmp_path):
    """Failing means NOTES.TXT of an old camera or notes.md.gz is not searched."""
    (tmp_path / "A.HTM").write_text("<p>One</p>")
    (tmp_path / "b.md.gz").write_bytes(gzip.compress(b"Two"))
    assert [passage.text for passage in read_documents(tmp_path)] == ["One", "Two"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl"])
def test_facts_become_a_passage_each(tmp_path, ending):
    """Failing means a file of facts is one long text, or is not searched."""
    row = {"question": "Why?", "answer": "So."}
    separator = "," if ending == ".csv" else "\t"
    table = f"question{separator}answer\nWhy?{separator}So.\n"
    texts = {".json": json.dumps([row]), ".jsonl": json.dumps(row)}
    (tmp_path / f"facts{ending}").write_text(texts.get(ending, table))
    assert read_documents(tmp_path) == [Passage("Why?", "Why?: So.")]


# --- what a folder's line says --------------------------------------------------------------------


def test_what_was_left_out_is_said_with_its_reason(tmp_path, capsys):
    """Failing means files are not searched and nobody is told."""
    (tmp_path / "a.md").write_text("One.")
    (tmp_path / "b.md").write_text("Two.")
    (tmp_path / "photo.PNG").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "rota.csv").write_text("day,duty\nMonday,Sweep\n")
    (tmp_path / "scan.pdf").write_bytes(make_pdf(b"0 0 10 10 re f"))
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "README.md").write_text("Not this.")
    assert len(read_documents(tmp_path)) == 2
    printed = capsys.readouterr().out
    assert "2 files read (2 .md)" in printed
    for said in ["rota.csv (", "scan.pdf (no text inside)", "1 .png", "node_modules"]:
        assert said in printed


def test_equal_reasons_are_counted_once(tmp_path, capsys):
    """Failing means forty damaged files make a message that nobody reads."""
    (tmp_path / "a.md").write_text("One.")
    for number in range(40):
        (tmp_path / f"{number}.docx").write_bytes(b"PK")
    read_documents(tmp_path)
    printed = capsys.readouterr().out
    assert "40 .docx (damaged" in printed
    assert len(printed) < 300


@pytest.mark.parametrize(
    "name, content",
    [
        ("package.json", b'{"name": "site", "version": "1.0"}'),
        ("tsconfig.json", b'{ // strict\n "a": 1, }'),
        ("facts.json", b'[{"question": "Why?"}]'),
        ("damaged.docx", b"PK\x03\x04 and no more"),
        ("damaged.pdf", b"%PDF-1.4\n%%EOF"),
        ("binary.txt", bytes(range(256)) * 4),
        ("empty.html", b""),
        ("pointer.md", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    ],
)
def test_a_bad_file_stops_itself_alone(tmp_path, capsys, name, content):
    """Failing means one bad file keeps a whole folder from being searched, or is read as text."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as refused:
        read_documents(tmp_path / name)
    assert refused.value.remedy
    (tmp_path / "good.md").write_text("One.")
    assert read_documents(tmp_path) == [Passage("good.md", "One.")]
    assert f"left out: {name} (" in capsys.readouterr().out


def test_bad_row_is_named_where_a_file_is_left_out(tmp_path, capsys):
    """Failing means a file of a thousand facts is left out and its one bad row cannot be found."""
    rows = [{"question": "Why?", "answer": "So."}, {"question": "Why?", "answer": 7}]
    (tmp_path / "facts.json").write_text(json.dumps(rows))
    (tmp_path / "good.md").write_text("One.")
    read_documents(tmp_path)
    assert "facts.json (row 2: " in capsys.readouterr().out


def test_folder_of_which_nothing_is_read_lists_its_files(tmp_path):
    """Failing means a folder of pictures becomes an empty index, and every search fails later."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "b.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"Left out: 1 \.png, 1 \.xlsx\. Remedy: give text"):
        read_documents(tmp_path)


def test_only_file_of_a_folder_has_its_own_remedy(tmp_path):
    """Failing means someone with one locked PDF is told to give a PDF."""
    (tmp_path / "a.docx").write_bytes(b"\xd0\xcf\x11\xe0 locked")
    with pytest.raises(
        DataError, match=r"a\.docx: damaged, or locked with a password\. Remedy: open"
    ):
        read_documents(tmp_path)


@pytest.mark.parametrize(
    "ending, remedy", [(".doc", "as .docx"), (".xlsx", "csv"), (".mov", ".md")]
)
def test_other_kinds_of_files_have_a_remedy(tmp_path, ending, remedy):
    """Failing means an old Word file is refused without a word on what to do."""
    (tmp_path / f"a{ending}").write_bytes(b"x")
    with pytest.raises(DataError) as refused:
        read_documents(tmp_path / f"a{ending}")
    assert remedy in refused.value.remedy


# --- what stands in a document --------------------------------------------------------------------


def test_html_is_read_as_a_browser_shows_it(tmp_path):
    """Failing means scripts and menus are searched, or words are torn where they are bold."""
    page = (
        "<html><head><title>Club</title><style>p {}</style></head><body><nav><a>Home</a></nav>"
        "<h1>Fees &amp; keys</h1><p>Stu<b>dents</b>\n pay "
        "half.<br>Others</p><script>x('<p>')</script>"
        "<table><tr><td>Mon</td><td>Ann</td></tr></table></body></html>"
    )
    (tmp_path / "a.html").write_text(page)
    text = read_document(tmp_path / "a.html").text
    assert text == "Club\n\nFees & keys\n\nStudents pay half. Others\n\nMon Ann"


def test_menu_that_is_never_closed_hides_nothing(tmp_path):
    """Failing means one missing </nav> makes a page empty."""
    (tmp_path / "a.html").write_text("<nav>Home<p>All of the text.")
    assert "All of the text." in read_document(tmp_path / "a.html").text


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "gb2312"])
def test_html_names_its_encoding(tmp_path, codec):
    """Failing means a Chinese page is read as other signs."""
    (tmp_path / "a.html").write_bytes('<meta charset="gb2312"><p>狗可以</p>'.encode(codec))
    assert read_document(tmp_path / "a.html").text == "狗可以"


def test_deleted_words_and_comments_are_not_read(tmp_path):
    """Failing means search finds what the author has struck out."""
    body = (
        "<w:p><w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:r><w:t>new</w:t><w:tab/>"
        "<w:t>line</w:t></w:r><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        "<w:p><w:r><w:t>2</w:t></w:r></w:p>"
    )
    write_zip(tmp_path / "a.docx", {"word/document.xml": f"<w:d {W}>{body}</w:d>"})
    assert read_document(tmp_path / "a.docx").text == "new line\n\n2"


def test_half_surrogates_are_replaced_aloud(tmp_path, capsys):
    """Failing means half an emoji stops the tokenizer long after the file was read."""
    (tmp_path / "a.ipynb").write_text('{"cells": [{"source": "good \\ud83d"}]}')
    assert read_documents(tmp_path) == [Passage("a.ipynb", "good \ufffd")]
    assert "a.ipynb: 1 unreadable place replaced" in capsys.readouterr().out


def test_notebooks_of_both_formats_give_their_cells(tmp_path):
    """Failing means old notebooks, or code cells, are not searched."""
    old = {"worksheets": [{"cells": [{"input": ["x = 1"]}, {"source": "Why"}]}]}
    (tmp_path / "a.ipynb").write_text(json.dumps(old))
    assert read_document(tmp_path / "a.ipynb").text == "x = 1\n\nWhy"


def test_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    """Failing means a small file fills the memory."""
    write_zip(tmp_path / "a.docx", {"word/document.xml": b" " * (6 * formats.LARGEST_TEXT)})
    with pytest.raises(DataError, match="too large"):
        read_document(tmp_path / "a.docx")


def test_text_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    """Failing means a log file of a gigabyte keeps a laptop busy for days."""
    (tmp_path / "a.txt").write_text("one two three")
    monkeypatch.setattr(formats, "LARGEST_TEXT", 10)
    with pytest.raises(DataError, match="too large"):
        read_document(tmp_path / "a.txt")


def test_links_that_lead_nowhere_or_in_circles_stop_nothing(tmp_path):
    """Failing means a folder with a broken link is not searched, or is searched for ever."""
    (tmp_path / "a.md").write_text("One.")
    (tmp_path / "broken.md").symlink_to(tmp_path / "gone")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert read_documents(tmp_path) == [Passage("a.md", "One.")]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_no_text_can_be_printed(tmp_path):
    """Failing means a file that an old Mac named stops every print of its passage."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md"))
    path.write_text("One.")
    [passage] = read_documents(tmp_path)
    assert passage.name.encode()


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending", [".docx", ".odt", ".pptx", ".epub", ".pdf", ".rtf", ".ipynb", ".html", ".md"]
)
def test_damaged_files_are_read_or_refused(tmp_path, ending):
    """Failing means a file that was cut or changed on its way ends in another library's error."""
    source = tmp_path / f"good{ending}"
    write_sample(source)
    content = source.read_bytes()
    chance = random.Random(0)
    path = tmp_path / f"bad{ending}"
    for _ in range(count_mutations(40)):
        path.write_bytes(mutate(content, chance))
        started = time.process_time()
        try:
            text = read_document(path).text
        except CourseError as error:
            assert error.remedy
        else:
            assert text.encode()
        assert time.process_time() - started < 1

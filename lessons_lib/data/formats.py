"""Texts out of documents: plain text, HTML, Word, slides, e-books, PDF, RTF and notebooks.

Contract: `read_document` chooses a parser by the file's ending and returns the text, its paragraphs
separated by blank lines. A file of another kind, a damaged one, one that is too large and one
without text raise DataError with a remedy. Scripts, styles, menus and deleted text are left out.
"""

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element

import pypdfium2
from defusedxml import ElementTree
from pypdfium2.raw import FPDF_ERR_PASSWORD
from striprtf.striprtf import rtf_to_text

from lessons_lib.data.encodings import UNREADABLE, Text, replace_surrogates
from lessons_lib.data.files import TABLE_ENDINGS, decode_file, plain_ending, read_text
from lessons_lib.data.kinds import TEXT_SIGNATURES
from lessons_lib.data.rows import show_path
from lessons_lib.errors import CourseError, DataError

# Read unchanged: marks such as Markdown's or reStructuredText's do not hinder search.
PLAIN = (
    ".txt",
    ".text",
    ".md",
    ".markdown",
    ".mdown",
    ".mkd",
    ".mdx",
    ".qmd",
    ".rmd",
    ".rst",
    ".org",
    ".adoc",
    ".asciidoc",
    ".tex",
    ".srt",
    ".vtt",
)
LARGEST_TEXT = 20_000_000  # bytes; four times the Bible, and some 30,000 passages to embed
LARGEST_FILE = 500_000_000  # bytes, with pictures

BREAK = "\x1e"  # between paragraphs, while a document is read: no document holds it
HTML = (".html", ".htm", ".xhtml")
HTML_ENCODING = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?([\w-]+)""")
HTML_CODE = ("script", "style")
HTML_UNREAD = (*HTML_CODE, "nav", "noscript", "template", "svg")
HTML_SPACES = ("br", "td", "th")
HTML_BLOCKS = (
    "title",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "p",
    "div",
    "section",
    "article",
    "aside",
    "header",
    "footer",
    "main",
    "blockquote",
    "pre",
    "figure",
    "figcaption",
    "table",
    "caption",
    "tr",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "form",
    "fieldset",
    "hr",
    "address",
    "details",
    "summary",
)

RTF_MARK = rb"{\rtf"

# The members that hold the texts in zip archives of Word, LibreOffice and PowerPoint.
OFFICE_PARTS = {
    ".docx": ("word/document*.xml", "word/footnotes.xml", "word/endnotes.xml"),
    ".docm": ("word/document*.xml", "word/footnotes.xml", "word/endnotes.xml"),
    ".odt": ("content.xml",),
    ".odp": ("content.xml",),
    ".pptx": ("ppt/slides/slide*.xml", "ppt/notesSlides/notesSlide*.xml"),
}
# Names of XML elements, without their namespaces. OOXML has its texts in `t` alone.
OFFICE_TEXTS = ("t", "p", "h", "span", "a")
OFFICE_PARAGRAPHS = ("p", "h")
OFFICE_SPACES = ("tab", "ptab", "br", "cr", "s", "line-break")
OFFICE_UNREAD = ("tracked-changes", "annotation", "moveFrom", "Fallback")

SAVE_AS = {
    ".doc": "save it as .docx.",
    ".ppt": "save it as .pptx or .pdf.",
    ".pages": "export it as .docx or .pdf.",
    ".key": "export it as .pptx or .pdf.",
    ".xls": "save it as .csv, with columns question and answer.",
    ".xlsx": "save it as .csv, with columns question and answer.",
    ".ods": "save it as .csv, with columns question and answer.",
    ".numbers": "export it as .csv, with columns question and answer.",
    ".zip": "unpack it and give the folder.",
}


def read_document(path: Path) -> Text:
    """The text of a file, its encoding, and how many unreadable places were replaced.

    Raises DataError, which names the file and a remedy, for an ending that is not among `ENDINGS`,
    and for a file that is damaged, too large (LARGEST_FILE, LARGEST_TEXT), empty or without text.
    """
    ending = find_ending(path)
    where = show_path(path)
    if ending not in ENDINGS:
        remedy = SAVE_AS.get(ending, f"give one of {', '.join(ENDINGS)}.")
        raise DataError("this kind of file is not read.", where=where, remedy=remedy)
    size = _find_size(path)
    if not size:
        raise DataError("it is empty.", where=where, remedy="copy it anew, or leave it out.")
    _check_size(size, LARGEST_FILE if ending in PARSERS else LARGEST_TEXT, where)
    if ending in PLAIN:
        text = read_text(path)
        _refuse_pointers(text.text, where)
    elif ending in HTML:
        text = _read_html(path)
    else:
        text = _parse(path, PARSERS[ending])
    _check_size(len(text.text), LARGEST_TEXT, where)
    if not text.text.strip():
        is_pdf = ending == ".pdf"
        remedy = "its pages are pictures: make text of them by OCR." if is_pdf else "fill it in."
        raise DataError("no text inside.", where=where, remedy=remedy)
    return text


def _refuse_pointers(text: str, where: str) -> None:
    """Raises DataError for a pointer that Git LFS or git-annex left in place of the file."""
    for pattern, name, remedy in TEXT_SIGNATURES:
        if "pointer" in name and re.match(pattern, text):
            raise DataError(f"it is {name}.", where=where, remedy=remedy)


def find_ending(path: Path) -> str:
    """The ending in small letters; for a packed text the inner one: ".md" for "notes.md.gz"."""
    inside = plain_ending(path)
    return inside if inside in (*PLAIN, *TABLE_ENDINGS) else path.suffix.lower()


def _find_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _describe_access(path, error) from error


def _describe_access(path: Path, error: OSError) -> DataError:
    what = f"cannot be opened ({error.strerror or error})."
    return DataError(what, where=show_path(path), remedy="copy it to where you may read it.")


def _check_size(size: int, largest: int, where: str) -> None:
    if size > largest:
        raise DataError(
            f"too large: {size / 1e6:,.1f} MB, where {largest / 1e6:,.0f} are the most.",
            where=where,
            remedy="cut it into several files, and keep what is to be searched.",
        )


def _parse(path: Path, parser: Callable[[Path], str]) -> Text:
    """The text that a format's parser reads. Its errors on a damaged file become a DataError."""
    try:
        with warnings.catch_warnings(action="ignore"):
            text = replace_surrogates(parser(path))
    except CourseError:
        raise
    except OSError as error:
        raise _describe_access(path, error) from error
    except Exception as error:  # libraries do not say which errors a damaged file can lead to
        is_office = path.suffix.lower() in OFFICE_PARTS
        raise DataError(
            "damaged, or locked with a password." if is_office else "damaged.",
            where=show_path(path),
            remedy="open it in the program that made it, and save it again.",
        ) from error
    replaced = text.count(UNREADABLE)
    if replaced > max(10, len(text) // 10):
        what = "its letters cannot be recognised: the fonts inside do not say which they are."
        raise DataError(what, where=show_path(path), remedy="make a file with text, by OCR.")
    return Text(text, "UTF-8", replaced)


def _join_paragraphs(paragraphs: Iterable[str]) -> str:
    """The paragraphs that are not blank, with single spaces, separated by blank lines."""
    lines = (" ".join(paragraph.split()) for paragraph in paragraphs)
    return "\n\n".join(line for line in lines if line)


# --- HTML -----------------------------------------------------------------------------------------


def _read_html(path: Path) -> Text:
    text = _decode_html(path)
    return replace(text, text=_read_markup(text.text))


def _decode_html(path: Path) -> Text:
    """The markup: in UTF-8, else in the encoding that the page names, else read by `read_text`."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _describe_access(path, error) from error
    named = HTML_ENCODING.search(raw)
    try:
        return Text(raw.decode("utf-8-sig"), "UTF-8")
    except UnicodeDecodeError:
        pass
    try:
        text = raw.decode(named[1].decode(), errors="replace") if named else ""
    except (LookupError, ValueError):  # the page names an unknown encoding
        text = ""
    if not text or text.count(UNREADABLE) > len(text) // 100:
        return read_text(path)
    return Text(text, named[1].decode(), text.count(UNREADABLE))


def _read_markup(markup: str) -> str:
    """The text that a browser would show of HTML.

    >>> _read_markup("<h1>Fees</h1><p>Stu<b>dents</b> pay half.<script>x()</script>")
    'Fees\\n\\nStudents pay half.'
    """
    parser = _TextParser()
    parser.feed(markup.replace(BREAK, " "))
    parser.close()
    return _join_paragraphs("".join(parser.pieces).split(BREAK))


class _TextParser(HTMLParser):
    """The texts of HTML in their order, with BREAK around blocks.

    pieces: texts that were read. unread: texts inside an element such as nav that is still open.
    They are dropped when it closes. If it never closes they are kept, as a browser shows them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.unread: list[str] = []
        self.open: list[str] = []  # names of the elements that are not read, outermost first

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens an element that is not read, or adds the tag's break or space."""
        if tag in HTML_UNREAD:
            self.open.append(tag)
        elif tag in HTML_BLOCKS:
            self._add(BREAK)
        elif tag in HTML_SPACES:
            self._add(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Adds the break or space of a tag such as <br/>; opens no element, as it holds no text."""
        if tag not in HTML_UNREAD:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Adds the break after a block. Closes an element that is not read, and drops its texts
        once no such element is open.
        """
        if tag in HTML_BLOCKS:
            self._add(BREAK)
        elif tag in self.open:
            del self.open[self.open.index(tag) :]
            if not self.open:
                self.unread.clear()

    def handle_data(self, data: str) -> None:
        """Adds a text, unless it is code."""
        if not self.open or self.open[-1] not in HTML_CODE:
            self._add(data)

    def _add(self, piece: str) -> None:
        pieces = self.unread if self.open else self.pieces
        pieces.append(piece)

    def close(self) -> None:
        """Ends parsing; keeps the texts of an element that was never closed."""
        super().close()
        self.pieces += self.unread


# --- archives, and formats that need a library ----------------------------------------------------


def _read_parts(path: Path, patterns: Iterable[str]) -> list[bytes]:
    """The members of a zip archive that match, by pattern and then in the archive's order.

    Raises DataError if they are too large unpacked.
    """
    with zipfile.ZipFile(path) as archive:
        members = []
        for pattern in patterns:
            for member in archive.infolist():
                if fnmatchcase(member.filename, pattern):
                    members.append(member)
        # A small archive can unpack to more than fits into memory; its directory lists the sizes.
        size = sum(member.file_size for member in members)
        _check_size(size, 5 * LARGEST_TEXT, show_path(path))
        return [archive.read(member) for member in members]


def _read_office(path: Path) -> str:
    """The paragraphs of .docx and its kin, with footnotes, without comments and deletions."""
    parts = _read_parts(path, OFFICE_PARTS[path.suffix.lower()])
    if not parts:
        raise ValueError("the archive has no part with text")
    pieces = []
    for part in parts:
        pieces += _walk_office(ElementTree.fromstring(part))
    return _join_paragraphs("".join(pieces).split(BREAK))


def _walk_office(element: Element) -> Iterator[str]:
    """The texts of an element in their order, with BREAK around paragraphs."""
    name = _local_name(element)
    if name in OFFICE_UNREAD:
        return
    if name in OFFICE_SPACES:
        yield " "
    if name in OFFICE_PARAGRAPHS:
        yield BREAK
    holds_text = name in OFFICE_TEXTS
    if holds_text and element.text:
        yield element.text
    for child in element:
        yield from _walk_office(child)
        if holds_text and child.tail:
            yield child.tail
    if name in OFFICE_PARAGRAPHS:
        yield BREAK


def _local_name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _read_epub(path: Path) -> str:
    chapters = _read_parts(path, ("*.xhtml", "*.html", "*.htm"))
    texts = [_read_markup(chapter.decode("utf-8", errors="replace")) for chapter in chapters]
    return "\n\n".join(texts)


def _read_pdf(path: Path) -> str:
    """The text of a PDF, one paragraph per page. Raises DataError for a file that a password locks.

    PDFium also opens files whose password only restricts printing.
    """
    try:
        document = pypdfium2.PdfDocument(path.read_bytes())
    except pypdfium2.PdfiumError as error:
        if error.err_code != FPDF_ERR_PASSWORD:
            raise
        remedy = "save it without its password."
        what = "locked with a password."
        raise DataError(what, where=show_path(path), remedy=remedy) from error
    with document:
        pages = [page.get_textpage().get_text_bounded() for page in document]
    # PDFium writes U+0002 for the hyphen of a word that continues in the next line.
    return "\n\n".join(page.replace("\x02", "").replace("\r\n", "\n") for page in pages)


def _read_rtf(path: Path) -> str:
    raw = path.read_bytes()
    if not raw.startswith(RTF_MARK):
        return decode_file(path)
    return rtf_to_text(raw.decode("cp1252", errors="replace"), errors="replace")


def _read_notebook(path: Path) -> str:
    """The sources of a notebook's cells, of format 4 or 3, without outputs."""
    notebook = json.loads(decode_file(path))
    cells = notebook.get("cells")
    if cells is None:
        cells = []
        for sheet in notebook["worksheets"]:  # format 3
            cells += sheet["cells"]
    sources = [cell.get("source", cell.get("input", "")) for cell in cells]
    return "\n\n".join("".join(source) for source in sources)


PARSERS = {
    **dict.fromkeys(OFFICE_PARTS, _read_office),
    ".epub": _read_epub,
    ".pdf": _read_pdf,
    ".rtf": _read_rtf,
    ".ipynb": _read_notebook,
}
ENDINGS = (*PLAIN, *HTML, *PARSERS)

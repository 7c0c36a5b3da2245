"""What a file is that cannot be read as a notebook, and what to ask its student for.

Contract: looks at bytes alone, runs nothing, and opens an archive no further than its list of
names. `explain_file` has an answer for any bytes.
"""

import io
import json
import re
import zipfile
from dataclasses import dataclass

HEAD = 4096  # bytes in which every signature stands
THE_NOTEBOOK = "the notebook itself (.ipynb)"


@dataclass(frozen=True)
class FileType:
    """What a file is, such as "a PDF", and what to ask its student for."""

    what: str
    ask: str = THE_NOTEBOOK

    def __str__(self) -> str:
        return f"not read: {self.what}; ask for {self.ask}"


ARCHIVE_ASK = f"{THE_NOTEBOOK}, or unpack it yourself"
PRINT_ASK = f"{THE_NOTEBOOK}, not a print or a picture of it"

# bytes, where they stand, and what they are the signature of
SIGNATURES = (
    (b"PK\x05\x06", 0, FileType("an empty zip archive")),
    (b"\x1f\x8b", 0, FileType("a gzip archive", ARCHIVE_ASK)),
    (b"BZh", 0, FileType("a bzip2 archive", ARCHIVE_ASK)),
    (b"\xfd7zXZ\x00", 0, FileType("an xz archive", ARCHIVE_ASK)),
    (b"(\xb5/\xfd", 0, FileType("a zstd archive", ARCHIVE_ASK)),
    (b"7z\xbc\xaf\x27\x1c", 0, FileType("a 7z archive", ARCHIVE_ASK)),
    (b"Rar!\x1a\x07", 0, FileType("a RAR archive", ARCHIVE_ASK)),
    (b"ustar", 257, FileType("a tar archive", ARCHIVE_ASK)),
    (b"%PDF", 0, FileType("a PDF", PRINT_ASK)),
    (b"\x89PNG", 0, FileType("a picture (PNG)", PRINT_ASK)),
    (b"\xff\xd8\xff", 0, FileType("a picture (JPEG)", PRINT_ASK)),
    (b"GIF8", 0, FileType("a picture (GIF)", PRINT_ASK)),
    (b"ftyp", 4, FileType("a picture or a film of a telephone", PRINT_ASK)),
    (b"WEBP", 8, FileType("a picture (WebP)", PRINT_ASK)),
    (b"{\\rtf", 0, FileType("a text document (RTF)")),
    (b"\xd0\xcf\x11\xe0", 0, FileType("an Office document")),
    (b"bplist00", 0, FileType("a web archive or a setting of a Mac")),
    (b"\x00\x05\x16\x07", 0, FileType("a Mac's notes about a file (AppleDouble), not the file")),
    (b"SQLite format 3", 0, FileType("a database (SQLite)")),
    (b"\x93NUMPY", 0, FileType("an array of numpy")),
    (b"\x7fELF", 0, FileType("a program")),
    (b"MZ", 0, FileType("a program")),
)

# which names in a zip archive say that it is a document
ZIPPED = (
    ("word/", FileType("a Word document", PRINT_ASK)),
    ("xl/", FileType("an Excel table")),
    ("ppt/", FileType("a PowerPoint presentation")),
    ("META-INF/manifest.xml", FileType("a LibreOffice document", PRINT_ASK)),
)

DOWNLOAD = (
    f"{THE_NOTEBOOK}: GitHub's 'Download raw file', Jupyter's or Colab's File > Download, not the "
    f"browser's "
    "'Save page as'"
)
# what a web page holds (lower case), and what it is: the first that fits
PAGES = (
    (
        r"jp-notebook|jp-cell|notebook-container",
        FileType("a notebook exported as a web page (HTML)"),
    ),
    (
        r"type=.?password|(?:sign|log)[ -]?in\b|\blogin\b|single sign-on|anmeld|connexion|iniciar "
        r"sesi",
        FileType("a web page that asks to log in, saved in the notebook's place", DOWNLOAD),
    ),
    (r"github", FileType("a web page of GitHub, not the notebook that it shows", DOWNLOAD)),
    (r"gitlab", FileType("a web page of GitLab, not the notebook that it shows", DOWNLOAD)),
    (r"colab", FileType("a web page of Colab, not the notebook that it shows", DOWNLOAD)),
    (r"drive\.google|docs\.google", FileType("a web page of Google Drive", DOWNLOAD)),
    (
        r"nbviewer|jupyter",
        FileType("a web page of Jupyter, not the notebook that it shows", DOWNLOAD),
    ),
    (r"", FileType("a web page (HTML), not a notebook", DOWNLOAD)),
)

LINK_ASK = f"{THE_NOTEBOOK}: open the link, then File > Download > Download .ipynb"
# what a text holds, and what it is: the first that fits
TEXTS = (
    (
        r"\Aversion https://git-lfs",
        FileType("a Git LFS pointer, not the file", f"{THE_NOTEBOOK}, after `git lfs pull`"),
    ),
    (
        r"^(?:<{7}|>{7}|\|{7})(?: |$)",
        FileType(
            "the two sides of a Git merge (<<<<<<<, >>>>>>>)",
            "a notebook in which the merge conflict is resolved",
        ),
    ),
    (r"\A(?:diff --git|--- \S+\n\+\+\+ )", FileType("a list of changes (a diff)")),
    (r"\A(?:MIME-Version:|From: <Saved by)", FileType("a saved web page (MHTML)", DOWNLOAD)),
    (r"\A\[InternetShortcut\]", FileType("a link (.url)", LINK_ASK)),
    (r"\A<\?xml[\s\S]{0,400}?<plist", FileType("a link of a Mac (.webloc)", LINK_ASK)),
    (r"\Ahttps?://\S+\s*\Z", FileType("a link", LINK_ASK)),
    (
        r"\A#!.*python|^# ?%%|^# In ?\[|^# -\*- coding|^import \w|^from [\w.]+ import |^def \w+ "
        r"?\(",
        FileType("a Python script, not a notebook"),
    ),
)


def explain_signature(content: bytes) -> FileType | None:
    """What kind of binary file begins with these bytes (the first HEAD suffice); None for a
    text.
    """
    if content.startswith(b"PK\x03\x04"):
        return _explain_zip(content)
    for signature, start, kind in SIGNATURES:
        if content[start : start + len(signature)] == signature:
            return kind
    return None


def _explain_zip(content: bytes) -> FileType:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except Exception:
        # cut, only its head, or damaged in any of the ways that zipfile does not foresee
        names = []
    for name, kind in ZIPPED:
        if any(member.startswith(name) for member in names):
            return kind
    notebooks = [
        name for name in names if name.lower().endswith(".ipynb") and "__MACOSX" not in name
    ]
    inside = (
        f" with {len(notebooks)} notebook{'s'[: len(notebooks) > 1]} in it" if notebooks else ""
    )
    return FileType(f"a zip archive{inside}", ARCHIVE_ASK)


def explain_file(content: bytes, problem: str = "") -> FileType:
    """What a file is that is no notebook.

    problem: what JSON's reader said of it, for a file that looks like damaged JSON.

    >>> print(explain_file(b"%PDF-1.7"))
    not read: a PDF; ask for the notebook itself (.ipynb), not a print or a picture of it
    """
    if not content:
        return FileType("an empty file (0 bytes)", "the notebook again, saved and then handed in")
    kind = explain_signature(content)
    if kind:
        return kind
    if not content.strip(b"\x00 \r\n\t\xef\xbb\xbf"):
        return FileType("a file of nothing but blanks or zeros", "the notebook again")
    text = content.decode(json.detect_encoding(content), errors="replace").lstrip("\ufeff \t\r\n")
    return _explain_text(re.sub(r"\r\n?", "\n", text), problem)


def _explain_text(text: str, problem: str) -> FileType:
    if text.startswith("{") or text.startswith("["):
        merge = TEXTS[1]
        if re.search(merge[0], text, re.MULTILINE):
            return merge[1]
        return FileType(problem or "JSON, but no notebook", "the notebook again")
    for pattern, kind in TEXTS[:2]:
        if re.search(pattern, text, re.MULTILINE):
            return kind
    text = text[: 2**16]  # enough for the rest, and soon searched
    start = text[:HEAD].lower()
    if "<html" in start or "<!doctype html" in start:
        return next(kind for pattern, kind in PAGES if re.search(pattern, text.lower()))
    for pattern, kind in TEXTS[2:]:
        if re.search(pattern, text, re.MULTILINE):
            return kind
    share = text.count("\ufffd") / max(1, len(text))
    return FileType(
        "binary data, no notebook" if share > 0.05 or "\x00" in text else "a text, no notebook"
    )


def explain_json(value: object) -> FileType:
    """What JSON is that holds no notebook."""
    if not isinstance(value, dict):
        return FileType(f"JSON, but no notebook (a {type(value).__name__} stands in its place)")
    message = value.get("message", value.get("error", value.get("detail")))
    if isinstance(message, str):
        return FileType(
            f'the error message of a server ("{message[:80]}"), saved in its place', DOWNLOAD
        )
    if {"doc_id", "resource_id"} & value.keys() or isinstance(value.get("url"), str):
        return FileType("a link to a notebook in Google Drive or Colab, not the notebook", LINK_ASK)
    if "payload" in value or "download_url" in value:
        return FileType("GitHub's description of a file, not the file", DOWNLOAD)
    for name in ("cells", "worksheets"):
        if name in value:
            return FileType(
                f"a damaged notebook: its `{name}` are no list of cells", "the notebook again"
            )
    keys = ", ".join(list(value)[:5]) or "nothing"
    return FileType(f"JSON, but no notebook (it has {keys})"[:200])

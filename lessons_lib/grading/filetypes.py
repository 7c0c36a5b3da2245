"""What a file is that cannot be read as a notebook, and what to ask its student for.

Contract: the answer depends on the file's bytes alone. Nothing is run, and of an archive only the
list of names is read. `explain_file` has an answer for any bytes. Most signatures are those of
`data.kinds`.
"""

import io
import json
import re
import zipfile
from dataclasses import dataclass

from lessons_lib.data import kinds

HEAD = 4096  # bytes in which every signature occurs
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

# signatures that `data.kinds.SIGNATURES` lacks: bytes, their position, and what the file is
SIGNATURES = (
    (b"PK\x05\x06", 0, FileType("an empty zip archive")),
    (b"\x1f\x8b", 0, FileType("a gzip archive", ARCHIVE_ASK)),
    (b"BZh", 0, FileType("a bzip2 archive", ARCHIVE_ASK)),
    (b"\xfd7zXZ\x00", 0, FileType("an xz archive", ARCHIVE_ASK)),
    (b"ustar", 257, FileType("a tar archive", ARCHIVE_ASK)),
    (b"ftyp", 4, FileType("a picture or a film of a telephone", PRINT_ASK)),
    (b"WEBP", 8, FileType("a picture (WebP)", PRINT_ASK)),
    (b"bplist00", 0, FileType("a web archive or a setting of a Mac")),
)
# names of `data.kinds` for which the plain FileType does not fit
SPECIAL = {"a PDF": FileType("a PDF", PRINT_ASK), "an image": FileType("a picture", PRINT_ASK)}
APPLE_DOUBLE = FileType("a Mac's notes about a file (AppleDouble), not the file")

# beginnings of names in a zip archive that show which document it is
ZIPPED = (
    ("word/", FileType("a Word document", PRINT_ASK)),
    ("xl/", FileType("an Excel table")),
    ("ppt/", FileType("a PowerPoint presentation")),
    ("META-INF/manifest.xml", FileType("a LibreOffice document", PRINT_ASK)),
)

DOWNLOAD = (
    f"{THE_NOTEBOOK}: GitHub's 'Download raw file', Jupyter's or Colab's File > Download, "
    "not the browser's 'Save page as'"
)
# patterns in a web page (in lower case), and what the page is; the first match decides
PAGES = (
    (
        r"jp-notebook|jp-cell|notebook-container",
        FileType("a notebook exported as a web page (HTML)"),
    ),
    (
        r"type=.?password|(?:sign|log)[ -]?in\b|\blogin\b|single sign-on"
        r"|anmeld|connexion|iniciar sesi",
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
# patterns of what Git writes in place of a notebook or into it
LFS_POINTER = (
    r"\Aversion https://git-lfs",
    FileType("a Git LFS pointer, not the file", f"{THE_NOTEBOOK}, after `git lfs pull`"),
)
MERGE_CONFLICT = (
    r"^(?:<{7}|>{7}|\|{7})(?: |$)",
    FileType(
        "the two sides of a Git merge (<<<<<<<, >>>>>>>)",
        "a notebook in which the merge conflict is resolved",
    ),
)
# patterns in other texts, and what the text is; the first match decides
TEXTS = (
    (r"\A(?:diff --git|--- \S+\n\+\+\+ )", FileType("a list of changes (a diff)")),
    (r"\A(?:MIME-Version:|From: <Saved by)", FileType("a saved web page (MHTML)", DOWNLOAD)),
    (r"\A\[InternetShortcut\]", FileType("a link (.url)", LINK_ASK)),
    (r"\A<\?xml[\s\S]{0,400}?<plist", FileType("a link of a Mac (.webloc)", LINK_ASK)),
    (r"\Ahttps?://\S+\s*\Z", FileType("a link", LINK_ASK)),
    (
        r"\A#!.*python|^# ?%%|^# In ?\[|^# -\*- coding"
        r"|^import \w|^from [\w.]+ import |^def \w+ ?\(",
        FileType("a Python script, not a notebook"),
    ),
)


def explain_signature(content: bytes) -> FileType | None:
    """The kind of binary file that begins with these bytes, of which HEAD suffice; None for a
    text.
    """
    if content.startswith(b"PK\x03\x04"):
        return _explain_zip(content)
    for signature, start, kind in SIGNATURES:
        if content.startswith(signature, start):
            return kind
    if kinds.is_apple_double(content):
        return APPLE_DOUBLE
    for signature, name, remedy in kinds.SIGNATURES:
        if not content.startswith(signature):
            continue
        # a text may begin with a signature of letters, such as "BM" or "ID3"
        if signature.isalnum() and not kinds.is_binary(content):
            continue
        ask = ARCHIVE_ASK if remedy == kinds.UNPACK else THE_NOTEBOOK
        return SPECIAL.get(name, FileType(name, ask))
    return None


def _explain_zip(content: bytes) -> FileType:
    """Which document or archive a zip file is, by the names in it."""
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except Exception:
        # cut off, or damaged in a way that zipfile does not foresee
        names = []
    for name, kind in ZIPPED:
        if any(member.startswith(name) for member in names):
            return kind
    own_names = [name.lower() for name in names if "__MACOSX" not in name]
    count = sum(name.endswith(".ipynb") for name in own_names)
    plural = "s" if count > 1 else ""
    inside = f" with {count} notebook{plural} in it" if count else ""
    return FileType(f"a zip archive{inside}", ARCHIVE_ASK)


def explain_file(content: bytes, problem: str = "") -> FileType:
    """The kind of a file that is no notebook.

    problem: the error of the JSON parser, used for a file that looks like damaged JSON.

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
    for pattern, kind in (LFS_POINTER, MERGE_CONFLICT):
        if re.search(pattern, text, re.MULTILINE):
            return kind
    if text.startswith(("{", "[")):
        return FileType(problem or "JSON, but no notebook", "the notebook again")
    text = text[: 2**16]  # enough for the other patterns, and fast to search
    start = text[:HEAD].lower()
    if "<html" in start or "<!doctype html" in start:
        return next(kind for pattern, kind in PAGES if re.search(pattern, text.lower()))
    for pattern, kind in TEXTS:
        if re.search(pattern, text, re.MULTILINE):
            return kind
    undecoded = text.count("\ufffd") / max(1, len(text))
    if undecoded > 0.05 or "\x00" in text:
        return FileType("binary data, no notebook")
    return FileType("a text, no notebook")


def explain_json(value: object) -> FileType:
    """The kind of JSON that is no notebook."""
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

"""Formats of files, recognised by the first bytes and not by the ending.

Contract: `unpack` returns the bytes inside gzip, bzip2 and xz. `refuse_other_kinds` and
`refuse_other_texts` raise a DataError that names a format which this course does not read (an
archive, a PDF, a pointer, a web page) and a remedy. Messages quote no bytes of the file.
"""

import bz2
import gzip
import io
import lzma
import re
import zlib

from lessons_lib.errors import DataError

MAX_UNPACKED_BYTES = 2_000_000_000
HEAD_BYTES = 4096
APPLE_DOUBLE = (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")  # a Mac's notes on a file, not the file
PARQUET = b"PAR1"
ARROW_FILE = b"ARROW1"
ARROW_STREAM = b"\xff\xff\xff\xff"

EXPORT = "open it in its program and save the table as CSV (UTF-8)."
UNPACK = "unpack it and give the file or folder inside."
TAKE_ORIGINAL = "give the file of texts that it was made from."

SIGNATURES = (
    (b"%PDF-", "a PDF", "export its texts as CSV or TXT."),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV."),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file (.xls, .doc)", EXPORT),
    (b"{\\rtf", "a formatted text (RTF)", "save it as plain text or CSV (UTF-8)."),
    (b"\x89PNG\r\n", "an image", TAKE_ORIGINAL),
    (b"\xff\xd8\xff", "an image", TAKE_ORIGINAL),
    (b"GIF8", "an image", TAKE_ORIGINAL),
    (b"BM", "an image", TAKE_ORIGINAL),
    (b"II*\x00", "an image", TAKE_ORIGINAL),
    (b"RIFF", "an image or sound", TAKE_ORIGINAL),
    (b"ID3", "a sound", TAKE_ORIGINAL),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "export the table as CSV or Parquet."),
    (b"\x93NUMPY", "a NumPy array", TAKE_ORIGINAL),
    (b"7z\xbc\xaf'\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", UNPACK),
    (b"\x04\x22\x4d\x18", "packed by lz4", UNPACK),
    (b"ORC", "an ORC file", "export the table as Parquet or CSV."),
    (b"Obj\x01", "an Avro file", "export the table as Parquet or CSV."),
    (b"$FL2", "an SPSS file", EXPORT),
    (b"RDX", "an R file", "export the table in R with write.csv."),
    (b"\x7fELF", "a program", TAKE_ORIGINAL),
    (b"MZ\x90\x00", "a program", TAKE_ORIGINAL),
)
ZIP_CONTENTS = (  # bytes inside a ZIP archive, the format that they show, remedy
    (b"xl/", "an Excel workbook", "open it and save the sheet as CSV (UTF-8)."),
    (b"word/", "a Word document", "save it as plain text, or its table as CSV."),
    (b"ppt/", "a PowerPoint file", "save its text as plain text."),
    (b"mimetypeapplication/vnd.oasis", "an OpenDocument file", EXPORT),
    (b"mimetypeapplication/epub", "an e-book", "save its text as plain text."),
    (b"data.pkl", "a file of PyTorch", TAKE_ORIGINAL),
    (b".npy", "NumPy arrays", TAKE_ORIGINAL),
)
TEXT_SIGNATURES = (
    (
        r"version https://git-lfs\.",
        "a Git LFS pointer, not the file",
        "run `git lfs pull` in its repository.",
    ),
    (
        r"\S*/annex/objects/\S+\s*\Z",
        "a git-annex pointer, not the file",
        "run `git annex get` on it.",
    ),
    (
        r"(?i)(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+)?html\b",
        "a web page",
        "download the file itself, not the page that shows it or asks for a login.",
    ),
    (
        r"<\?xml|<[A-Za-z][\w.:-]*(\s[^<>]*)?>\s*<",
        "an XML file",
        "export it as CSV, with a line of column names.",
    ),
)


def unpack(raw: bytes, where: str) -> tuple[bytes, str]:
    """The bytes inside a packed file and its packing ("gzip"); `raw` and "" for other files.

    Raises DataError for a damaged file and for more than MAX_UNPACKED_BYTES.
    """
    if raw.startswith(b"\x1f\x8b"):
        return _unpack_by(gzip.GzipFile, raw, "gzip", where), "gzip"
    if re.match(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", raw):
        return _unpack_by(bz2.BZ2File, raw, "bzip2", where), "bzip2"
    if raw.startswith(b"\xfd7zXZ\x00"):
        return _unpack_by(lzma.LZMAFile, raw, "xz", where), "xz"
    return raw, ""


def _unpack_by(opener: type, raw: bytes, name: str, where: str) -> bytes:
    stream = io.BytesIO(raw)
    try:
        with opener(fileobj=stream) if opener is gzip.GzipFile else opener(stream) as file:
            content = file.read(MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"is a damaged {name} file.", where=where, remedy="download or pack it again."
        ) from error
    if len(content) > MAX_UNPACKED_BYTES:
        raise DataError("is too large unpacked.", where=where, remedy="give a part of it.")
    return content


def is_apple_double(head: bytes) -> bool:
    """Whether a file begins like the notes `._name` that a Mac's archive keeps on each file."""
    return head.startswith(APPLE_DOUBLE)


def refuse_other_kinds(raw: bytes, where: str) -> None:
    """Raises DataError for bytes of a known format that is not read here."""
    if is_apple_double(raw):
        raise DataError(
            "is a Mac's note on a file, not the file.",
            where=where,
            remedy="give the file of the same name without ._ at its start.",
        )
    if raw.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        raise _describe_zip(raw, where)
    if raw[257:262] == b"ustar":
        raise DataError("is a tar archive.", where=where, remedy=UNPACK)
    if re.match(rb"\x80[\x02-\x05][\x95}\](cK\x8c]", raw) and raw.rstrip().endswith(b"."):
        raise DataError(
            "is a Python pickle.", where=where, remedy="load it and write it with to_csv."
        )
    for signature, name, remedy in SIGNATURES:
        if raw.startswith(signature) and _is_certain(signature, raw):
            raise DataError(f"is {name}, no text file.", where=where, remedy=remedy)


def _is_certain(signature: bytes, raw: bytes) -> bool:
    """Whether a signature decides. One of mere letters needs binary data: a text may begin "BM"."""
    return (
        not signature.isascii() or b"\0" in signature or not signature.isalnum() or is_binary(raw)
    )


def _describe_zip(raw: bytes, where: str) -> DataError:
    for inside, name, remedy in ZIP_CONTENTS:
        if inside in raw:
            return DataError(f"is {name}, no text file.", where=where, remedy=remedy)
    return DataError("is a ZIP archive.", where=where, remedy=UNPACK)


CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1a\x1b\0")


def is_binary(raw: bytes) -> bool:
    """Whether more than one in a hundred of the first HEAD_BYTES bytes are control characters.

    NUL is not counted, as UTF-16 has it; nor is escape, with which ISO-2022-JP switches alphabets.
    """
    head = raw[:HEAD_BYTES]
    controls = len(head) - len(head.translate(None, CONTROLS))
    return controls > max(1, len(head) // 100)


def describe_binary(where: str) -> DataError:
    """The error for bytes that are no text and of no known format."""
    remedy = "export it as CSV or JSON (UTF-8)."
    return DataError("is binary data, no text file.", where=where, remedy=remedy)


def refuse_other_texts(text: str, where: str) -> None:
    """Raises DataError for an empty text and for a pointer, a web page or an XML file."""
    head = text[:HEAD_BYTES].lstrip()
    if not head:
        raise DataError("is empty.", where=where, remedy="give a file that holds rows.")
    for pattern, name, remedy in TEXT_SIGNATURES:
        if re.match(pattern, head, flags=re.DOTALL):
            raise DataError(f"is {name}.", where=where, remedy=remedy)

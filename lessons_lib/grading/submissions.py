"""Reads what students hand in: any file name, broken metadata, moved or missing cells, no notebook
at all.

Contract: every file gives a `Submission`, never an exception. The code is taken from a notebook's
cells, whatever its metadata contains. Everything unusual is noted in `remarks` (for student and
instructor) or `instructor_remarks` (which may name other students). A submission has no influence
on checks and points: they come from the assignment's source.
"""

import ast
import hashlib
import json
import re
import stat
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from lessons_lib.data import decode_file
from lessons_lib.data.encodings import replace_surrogates
from lessons_lib.errors import CourseError
from lessons_lib.grading.assignments import Assignment, find_check
from lessons_lib.grading.filetypes import (
    HEAD,
    FileType,
    explain_file,
    explain_json,
    explain_signature,
)
from lessons_lib.grading.inbox import CHECKPOINT, Inbox, name_some, scan_folder
from lessons_lib.grading.owners import Owner, find_owner
from lessons_lib.grading.sandbox import make_printable

LARGEST = 20 * 2**20  # bytes of a notebook
LONGEST_NAME = 2**16  # characters of a student's name; no path is as long
# characters of a cell that is parsed; longer cells are searched by patterns
LONGEST_CELL = 200_000
OLDER = "handed out in another version"
NOT_CODE = str.maketrans(
    {
        "\u00a0": " ",
        "\u202f": " ",
        "\u3000": " ",
        "\u200b": "",
        "\ufeff": "",
        "\u2028": "\n",
        "\u0085": "\n",
    }
)
BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
DEFINITION = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(", re.MULTILINE)
MERGE = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)


class SubmissionError(CourseError):
    """There is nothing to grade."""


@dataclass
class Submission:
    """What a student handed in.

    student: the file's path in the folder. cells: the notebook's code, one text per cell.
    assignment: None if none was recognised. remarks: what is unusual. digest: of the file's bytes.
    instructor_remarks: remarks that may name other students. owner: the student, as the path names
    them. modified: seconds since 1970.
    """

    student: str
    cells: list[str] = field(default_factory=list)
    assignment: Assignment | None = None
    remarks: list[str] = field(default_factory=list)
    digest: str = ""
    instructor_remarks: list[str] = field(default_factory=list)
    owner: Owner | None = None
    modified: float = 0.0


class _UnreadableError(Exception):
    """A file cannot be read; the message says why."""


def list_submissions(folder: Path) -> list[Path]:
    """Every submission below a folder, in order, or a single notebook.

    Raises SubmissionError if there is none.
    """
    return _open_inbox(folder).paths


def read_submissions(
    folder: Path, assignments: list[Assignment]
) -> tuple[list[Submission], list[Path]]:
    """All submissions of a folder, each with a name of its own, and the files that were left
    out.
    """
    inbox = _open_inbox(folder)
    submissions = []
    for path in inbox.paths:
        submission = read_submission(path, folder, assignments)
        submission.owner = inbox.owners.get(path) or submission.owner
        notes = inbox.notes.get(path, [])
        submission.instructor_remarks += [escape_controls(note) for note in notes]
        submissions.append(submission)
    _separate_names(submissions, inbox.paths)
    return submissions, inbox.ignored


def _open_inbox(folder: Path) -> Inbox:
    """The files of a folder, or a single notebook.

    Raises SubmissionError if there is no such folder, if it cannot be opened, or if it holds no
    submission.
    """
    where = escape_controls(f"SUBMISSIONS={folder}")
    remedy = "give a folder with one notebook (.ipynb) per student."
    try:
        mode = folder.stat().st_mode
    except PermissionError:
        raise SubmissionError(
            "it cannot be opened.", where=where, remedy="change its rights."
        ) from None
    except (OSError, ValueError):
        raise SubmissionError("it does not exist.", where=where, remedy=remedy) from None
    if stat.S_ISREG(mode):
        if ".ipynb" in folder.name.lower():
            return Inbox([folder])
        with folder.open("rb") as file:
            kind = explain_signature(file.read(HEAD)) or FileType("not a notebook")
        raise SubmissionError(
            f"it is {kind.what}.", where=where, remedy=f"unpack or convert it; {remedy}"
        )
    if not stat.S_ISDIR(mode):
        raise SubmissionError("it is neither a folder nor a file.", where=where, remedy=remedy)
    inbox = scan_folder(folder)
    if inbox.paths == [folder]:
        raise SubmissionError("it cannot be opened.", where=where, remedy="change its rights.")
    if not inbox.paths:
        others = f", only {name_some(inbox.ignored)}" if inbox.ignored else ""
        raise SubmissionError(
            f"it holds no notebook (*.ipynb){others}.", where=where, remedy=remedy
        )
    return inbox


def _separate_names(submissions: list[Submission], paths: list[Path]) -> None:
    """Adds a digest to the names of students whose paths are equal once control signs are
    escaped.
    """
    counts = Counter(submission.student for submission in submissions)
    for submission, path in zip(submissions, paths, strict=True):
        if counts[submission.student] > 1:
            digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()
            submission.student = f"{submission.student} ({digest[:8]})"


def escape_controls(text: str) -> str:
    """A text with control signs spelled out: they would move a terminal's cursor or change the
    direction of writing.

    >>> escape_controls("ann\\n")
    'ann\\\\n'
    """
    text = make_printable(text, longest=LONGEST_NAME)
    signs = []
    for sign in text:
        is_control = unicodedata.category(sign) in ("Cc", "Zl", "Zp")
        if is_control or unicodedata.bidirectional(sign) in BIDIRECTIONAL:
            signs.append(sign.encode("unicode_escape").decode())
        else:
            signs.append(sign)
    return "".join(signs)


def read_submission(path: Path, folder: Path, assignments: list[Assignment]) -> Submission:
    """A submission with its remarks; the student is named by the path in the folder, without
    ending.
    """
    relative = Path(path.name) if path == folder else path.relative_to(folder)
    name = re.sub(r"\.ipynb$", "", relative.as_posix())
    submission = Submission(escape_controls(name), owner=find_owner(relative))
    try:
        content = _read_content(path, folder)
        submission.modified = path.stat().st_mtime
        submission.digest = hashlib.sha256(content).hexdigest()
        notebook, remarks = parse_notebook(content, path)
        cells, damages = list_cells(notebook)
    except _UnreadableError as problem:
        submission.remarks.append(escape_controls(str(problem)))
        return submission
    except PermissionError:
        submission.remarks.append("not read: no right to open it; change its rights (chmod)")
        return submission
    except OSError as problem:
        reason = problem.strerror or "the disk fails"
        submission.remarks.append(escape_controls(f"not read: {reason}"))
        return submission
    submission.remarks += remarks + damages
    if CHECKPOINT.search(path.name):
        submission.remarks.append(
            "Jupyter's own copy (-checkpoint), perhaps older than the notebook; ask for the "
            "notebook itself"
        )
    submission.cells = [source for source, _ in cells]
    submission.assignment = recognise(submission.cells, assignments)
    if not submission.assignment:
        submission.remarks.append("no assignment recognised: none of its functions is defined")
        return submission
    submission.remarks += compare_metadata(notebook, submission.assignment)
    if OLDER not in submission.remarks:  # its checks may differ
        submission.remarks += compare_cells(cells, submission.assignment)
    return submission


def _read_content(path: Path, folder: Path) -> bytes:
    """A file's bytes. Raises _UnreadableError for a link, a folder, a special file, or one that is
    too large.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = "another file" if path.exists() else "a file that does not exist"
        raise _UnreadableError(f"a link to {target}: not read")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _UnreadableError("a link to another file: not read")
    if stat.S_ISDIR(mode):
        try:
            next(path.iterdir(), None)
        except PermissionError:
            raise _UnreadableError(
                "not read: no right to open this folder; change it (chmod)"
            ) from None
        raise _UnreadableError(
            "not read: a folder without a notebook; ask for the notebook (.ipynb)"
        )
    if not stat.S_ISREG(mode):
        raise _UnreadableError("not a file, but a pipe or a device: not read")
    size = path.stat().st_size
    with path.open("rb") as file:
        content = file.read(HEAD)
        kind = explain_signature(content)
        if kind and size > LARGEST:
            raise _UnreadableError(kind)
        if size > LARGEST:
            raise _UnreadableError(
                f"larger than {LARGEST // 2**20} MB: not read; outputs cleared, it would be small"
            )
        return content + file.read(LARGEST)


def parse_notebook(content: bytes, path: Path) -> tuple[dict, list[str]]:
    """A notebook as a dict, whatever its encoding, and remarks on the file.

    Raises an _UnreadableError that says what the file is instead of a notebook.
    """
    if not content.strip() or explain_signature(content):
        raise _UnreadableError(explain_file(content))
    text, remarks = _decode_content(content, path)
    text = text.lstrip("\ufeff \t\r\n")
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except json.JSONDecodeError as problem:
        raise _UnreadableError(explain_file(content, _describe_damage(text, problem))) from None
    except (ValueError, RecursionError, MemoryError):
        raise _UnreadableError(explain_file(content, "JSON that no program can read")) from None
    if text[end:].strip("\ufeff \t\r\n\x00"):
        remarks.append("something stands behind the notebook's end: left out")
    inner = value.get("content") if isinstance(value, dict) else None
    if isinstance(inner, dict) and "cells" in inner:  # a reply of Jupyter's server
        value = inner
    if not isinstance(value, dict) or not _list_raw_cells(value):
        if isinstance(value, dict) and value.get("cells") == []:
            return value, remarks
        raise _UnreadableError(explain_json(value))
    return value, remarks


def _decode_content(content: bytes, path: Path) -> tuple[str, list[str]]:
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding), []
    except UnicodeDecodeError:
        remarks = ["not saved in UTF-8: some letters may be wrong"]
    try:
        return decode_file(path), remarks
    except (CourseError, UnicodeDecodeError):
        return content.decode(encoding, errors="replace"), remarks


def _describe_damage(text: str, problem: json.JSONDecodeError) -> str:
    """What is wrong with JSON: cut off, or damaged at a line and column."""
    is_at_end = problem.pos >= len(text.rstrip("\x00 \n")) - 10
    if is_at_end or problem.msg.startswith("Unterminated string"):
        return (
            f"it breaks off after {len(text):,} characters: saved, sent or downloaded only in part"
        )
    return f"damaged JSON at line {problem.lineno}, column {problem.colno} ({problem.msg})"


def _list_raw_cells(notebook: dict) -> list:
    """The cells of a notebook of format 3 or 4, unchanged; an empty list if there are none."""
    if isinstance(notebook.get("cells"), list):
        return notebook["cells"]
    cells = []
    worksheets = notebook.get("worksheets")
    for worksheet in worksheets if isinstance(worksheets, list) else ():
        if isinstance(worksheet, dict) and isinstance(worksheet.get("cells"), list):
            cells += worksheet["cells"]
    return cells


def list_cells(notebook: dict) -> tuple[list[tuple[str, dict]], list[str]]:
    """Code and nbgrader settings of every code cell, and remarks on damaged ones.

    Raises _UnreadableError if all cells are damaged.
    """
    cells = []
    damaged = []
    merged = []
    raw_cells = _list_raw_cells(notebook)
    for number, cell in enumerate(raw_cells, 1):
        kind = cell.get("cell_type") if isinstance(cell, dict) else None
        if not isinstance(kind, str):
            damaged.append(number)
        elif kind == "code":
            source = mend_source(cell.get("source", cell.get("input", "")))
            if source is None:
                damaged.append(number)
                continue
            if MERGE.search(source):
                merged.append(number)
            cells.append((source, dig(cell, "metadata", "nbgrader")))
    if damaged and len(damaged) == len(raw_cells):
        raise _UnreadableError(
            FileType("a damaged notebook: none of its cells can be read", "the notebook again")
        )
    remarks = []
    if damaged:
        remarks.append(f"damaged and left out: cell {_join_numbers(damaged)}")
    if merged:
        remarks.append(
            f"the two sides of a Git merge (<<<<<<<, >>>>>>>) stand in cell {_join_numbers(merged)}"
        )
    return cells, remarks


def _join_numbers(numbers: list[int]) -> str:
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more


def mend_source(source: object) -> str | None:
    """A cell's code with the line ends of Linux, in a form that Python reads; None if the source is
    no text.

    Special blanks (of web pages, of Macs' keyboards) are replaced by plain ones if that makes the
    cell readable for Python. In cells that are readable as they are, they stay.
    """
    if source is None:
        return ""
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        has_line_ends = any(line.endswith(("\n", "\r")) for line in source[:-1])
        line_end = "" if has_line_ends else "\n"  # some converters drop the line ends
        source = line_end.join(source)
    if not isinstance(source, str):
        return None
    code = _mend_lines(source)
    plain = code.translate(NOT_CODE)
    if plain != code and not parse_cell(code) and parse_cell(plain):
        return plain
    return code


def _mend_lines(source: str) -> str:
    text = replace_surrogates(source)  # halves of emojis
    return re.sub(r"\r+\n|\r", "\n", text).removeprefix("\ufeff")


def parse_cell(source: str) -> ast.Module | None:
    """A cell's syntax tree; None for a cell with errors, with commands of Jupyter, or of more than
    LONGEST_CELL characters.
    """
    if len(source) > LONGEST_CELL:
        return None
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def dig(value: object, *names: str) -> dict:
    """The dict inside nested dicts; an empty one if it is missing or no dict."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def recognise(cells: list[str], assignments: list[Assignment]) -> Assignment | None:
    """The assignment with the most functions defined in the cells, None if there is none.

    File names and metadata do not matter.
    """
    names = set()
    for cell in cells:
        names |= list_definitions(cell)

    def count(assignment: Assignment) -> int:
        """How many of its functions are among them."""
        return len(names & {exercise.name for exercise in assignment.exercises})

    best = max(assignments, key=count)
    return best if count(best) else None


def list_definitions(cell: str) -> set[str]:
    """The names of functions that a cell defines, be it by `def`, under `if`, decorated, or by an
    assignment.
    """
    tree = parse_cell(cell)
    if not tree:
        return set(DEFINITION.findall(cell))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def compare_cells(cells: list[tuple[str, dict]], assignment: Assignment) -> list[str]:
    """Remarks on a notebook's graded cells."""
    checks = [(find_check(source), source, settings) for source, settings in cells]
    order = [name for name, *_ in checks if name]
    remarks = []
    times = Counter(order)
    wanted = [exercise.name for exercise in assignment.exercises]
    for exercise in assignment.exercises:
        if times[exercise.name] != 1:
            often = "missing" if not times[exercise.name] else f"there {times[exercise.name]} times"
            remarks.append(f"the check of {exercise.name} is {often}")
        for name, source, settings in checks:
            if name == exercise.name and not is_same_code(source, exercise.public):
                remarks.append(f"the check of {name} was edited")
            if name == exercise.name and settings.get("points", exercise.points) != exercise.points:
                remarks.append(f"the points of {name} were edited")
    if [name for name in order if name in wanted] != [name for name in wanted if name in times]:
        remarks.append("checks were moved")
    return list(dict.fromkeys(remarks))


def is_same_code(cell: str, other: str) -> bool:
    """Whether two cells have the same code, apart from comments, blanks and quotes."""
    if cell.split() == other.split():
        return True
    code = re.sub(r"\A(?:\s*%.*\n)+", "", cell)  # such as %%time
    tree = parse_cell(code)
    other_tree = parse_cell(other)
    if tree is None or other_tree is None:
        return False
    try:
        return ast.dump(tree) == ast.dump(other_tree)
    except (RecursionError, MemoryError):
        return False


def compare_metadata(notebook: dict, assignment: Assignment) -> list[str]:
    """Remarks on a notebook's metadata."""
    version = dig(notebook, "metadata", "lessons_lib").get("version")
    remarks = []
    if version is None:
        remarks.append("its metadata was stripped")
    elif version != assignment.version:
        remarks.append(OLDER)
    language = dig(notebook, "metadata", "kernelspec").get("language") or "python"
    if str(language).lower() != "python":
        remarks.append(escape_controls(f"saved with a kernel for {language}; run as Python"[:80]))
    return remarks

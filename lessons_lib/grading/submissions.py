"""Reading what students hand in: any file name, broken metadata, moved or missing cells, no
notebook at all.

Contract: whatever lies in the folder, reading it gives a `Submission`, never an exception. The code
is taken from a notebook's cells whatever its metadata says, and everything unusual is said in
`remarks` (for student and instructor) or `instructor_remarks` (which may name other students).
Nothing of a submission decides about points: checks and points come from the assignment's source.
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
# characters of a cell that is parsed; what is longer is searched by patterns
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

    student: its path in the folder. cells: the code of a notebook, a text a cell. assignment: None
    where none was recognised. remarks: what is unusual. digest: of the file's bytes.
    instructor_remarks: what may name other students. owner: whose it is. modified: seconds since
    1970.
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
    """A file that is not read, and why."""


def list_submissions(folder: Path) -> list[Path]:
    """Every submission under a folder, or a single notebook, in order. SubmissionError for none."""
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
        submission.instructor_remarks += [
            escape_controls(note) for note in inbox.notes.get(path, [])
        ]
        submissions.append(submission)
    _separate_names(submissions, inbox.paths)
    return submissions, inbox.ignored


def _open_inbox(folder: Path) -> Inbox:
    """What lies in a folder. SubmissionError where it is none, cannot be opened, or holds no
    submission.
    """
    where = escape_controls(f"SUBMISSIONS={folder}")
    remedy = "give a folder with one notebook (.ipynb) a student."
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
    """Gives names of their own to students whose paths look the same once control signs are
    escaped.
    """
    counts = Counter(submission.student for submission in submissions)
    for submission, path in zip(submissions, paths, strict=True):
        if counts[submission.student] > 1:
            digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()
            submission.student = f"{submission.student} ({digest[:8]})"


def escape_controls(text: str) -> str:
    """A text in which signs that would move a terminal's cursor or turn the writing round are
    spelled out.

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
    """A submission with what was noticed; the student is its path in the folder, without its
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
        submission.remarks.append(
            escape_controls(f"not read: {problem.strerror or 'the disk fails'}")
        )
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
    """A file's bytes. _UnreadableError for a link, a folder, a special file, or one that is too
    large.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        whither = "another file" if path.exists() else "a file that does not exist"
        raise _UnreadableError(f"a link to {whither}: not read")
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
    """A notebook as a dict, in whatever encoding it was saved, and what is unusual about the file.

    _UnreadableError says what else the file is.
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
    if isinstance(inner, dict) and "cells" in inner:  # as Jupyter's server hands a notebook on
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
    """What is wrong with JSON: cut off, or damaged at a place."""
    is_cut = (
        problem.msg.startswith("Unterminated string")
        or problem.pos >= len(text.rstrip("\x00 \n")) - 10
    )
    if is_cut:
        return (
            f"it breaks off after {len(text):,} characters: saved, sent or downloaded only in part"
        )
    return f"damaged JSON at line {problem.lineno}, column {problem.colno} ({problem.msg})"


def _list_raw_cells(notebook: dict) -> list:
    """The cells of a notebook of formats 3 and 4, as they stand there; an empty list where there
    are none.
    """
    if isinstance(notebook.get("cells"), list):
        return notebook["cells"]
    cells = []
    worksheets = notebook.get("worksheets")
    for worksheet in worksheets if isinstance(worksheets, list) else ():
        if isinstance(worksheet, dict) and isinstance(worksheet.get("cells"), list):
            cells += worksheet["cells"]
    return cells


def list_cells(notebook: dict) -> tuple[list[tuple[str, dict]], list[str]]:
    """Code and nbgrader settings of every code cell, and remarks about damaged ones.

    _UnreadableError where no cell is one.
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
    """A cell's code with the line ends of Linux, as Python reads it; None for what is no text.

    Signs that look like blanks (of web pages, of Macs' keyboards) are replaced where Python cannot
    read the cell with them, and can without. Within texts such signs stay.
    """
    if source is None:
        return ""
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        has_line_ends = any(line.endswith(("\n", "\r")) for line in source[:-1])
        # some converters drop the line ends
        source = ("" if has_line_ends else "\n").join(source)
    if not isinstance(source, str):
        return None
    code = _mend_lines(source)
    plain = code.translate(NOT_CODE)
    if plain != code and not parse_cell(code) and parse_cell(plain):
        return plain
    return code


def _mend_lines(source: str) -> str:
    # halves of emojis
    text = replace_surrogates(source)
    return re.sub(r"\r+\n|\r", "\n", text).removeprefix("\ufeff")


def parse_cell(source: str) -> ast.Module | None:
    """A cell's syntax tree; None for a cell with errors, with commands of Jupyter, or too long for
    it.
    """
    if len(source) > LONGEST_CELL:
        return None
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def dig(value: object, *names: str) -> dict:
    """The dict inside dicts; an empty one where something else stands in its place."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def recognise(cells: list[str], assignments: list[Assignment]) -> Assignment | None:
    """The assignment most of whose functions are defined; file names and metadata do not matter."""
    names = set()
    for cell in cells:
        names |= list_definitions(cell)

    def count(assignment: Assignment) -> int:
        return len(names & {exercise.name for exercise in assignment.exercises})

    best = max(assignments, key=count)
    return best if count(best) else None


def list_definitions(cell: str) -> set[str]:
    """The names of functions that a cell defines: by `def`, under `if`, decorated, or by
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
    """What is unusual about a notebook's graded cells."""
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
    """Whether two cells do the same, whatever their comments, blanks and quotes."""
    if cell.split() == other.split():
        return True
    code = re.sub(r"\A(?:\s*%.*\n)+", "", cell)  # such as %%time
    trees = parse_cell(code), parse_cell(other)
    try:
        return all(trees) and ast.dump(trees[0]) == ast.dump(trees[1])
    except (RecursionError, MemoryError):
        return False


def compare_metadata(notebook: dict, assignment: Assignment) -> list[str]:
    """What is unusual about a notebook's metadata."""
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

"""The graded assignments: nbgrader notebooks as pairs, their student version, and a check that it
contains no solution and no hidden test.

Contract: people edit `source/<name>/<name>.py`. A graded cell begins with `# Check: <function>`,
tests the function of that name, and has its hidden tests between nbgrader's marks. The cell before
it has the solution. nbgrader's own steps make the student version, in the folder `release/`.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

from lessons_lib.errors import CourseError
from lessons_lib.lessons import read_source
from lessons_lib.paths import NOTEBOOKS

FOLDER = NOTEBOOKS / "assignments"
STEPS = (
    LockCells,
    ClearSolutions,
    ClearOutput,
    CheckCellMetadata,
    ClearHiddenTests,
    ComputeChecksums,
)
CHECK = re.compile(r"^[^\S\n]*#[^\S\n]*Check:[^\S\n]*(\w+)[^\S\n]*$", re.MULTILINE)
SECRET = re.compile(
    r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END (?:SOLUTION|HIDDEN TESTS)", re.DOTALL
)
TELLING = 12  # characters; shorter lines, such as a bracket or a return, reveal nothing


class AssignmentError(CourseError, ValueError):
    """A source that breaks the contract of assignments."""


class ReleaseError(CourseError):
    """A student version that would reveal solutions or hidden tests."""


@dataclass(frozen=True)
class Exercise:
    """A function to write: its points, the cell with its solution, the cell that grades it."""

    name: str
    points: int
    solution: str
    check: str

    @property
    def public(self) -> str:
        """The part of the check that students see."""
        return SECRET.sub("", self.check)


@dataclass(frozen=True)
class Assignment:
    """A graded notebook. setup: the code of its other cells. version: changes with every edit."""

    name: str
    setup: str
    exercises: list[Exercise]
    version: str


def list_assignments() -> list[Path]:
    """The sources, in order."""
    return sorted((FOLDER / "source").glob("*/*.py"))


def read_assignment(path: Path) -> Assignment:
    """An assignment from its source. Raises an AssignmentError that names a graded cell which
    breaks the contract.
    """
    cells = [cell for cell in read_source(path).cells if cell.cell_type == "code"]
    exercises = []
    setup = []
    for number, cell in enumerate(cells):
        settings = cell.metadata["nbgrader"]
        name = find_check(cell.source)
        if settings["grade"]:
            solution = cells[number - 1]
            if not name or f"def {name}(" not in solution.source:
                raise AssignmentError(
                    f"{settings['grade_id']} does not check the function of the cell before it.",
                    where=str(path),
                    remedy="begin it with `# Check: <function>`, after the cell that defines it.",
                )
            exercises.append(Exercise(name, settings["points"], solution.source, cell.source))
        elif not settings["solution"]:
            setup.append(cell.source)
    return Assignment(path.stem, "\n".join(setup), exercises, hash_source(path))


def find_check(source: str) -> str | None:
    """The function that a cell checks; None for a cell that is no check. The mark may be on any
    line.

    >>> find_check("#%%\\n# Check: attention \\nassert True")
    'attention'
    """
    match = CHECK.search(source)
    return match[1] if match else None


def hash_source(path: Path) -> str:
    """The version of an assignment: a digest of its source."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def build_release(path: Path) -> NotebookNode:
    """The student version of a source, made by nbgrader's own steps."""
    notebook = read_source(path)
    resources = {}
    for step in STEPS:
        notebook, resources = step().preprocess(notebook, resources)
    notebook.metadata["lessons_lib"] = {"assignment": path.stem, "version": hash_source(path)}
    return notebook


def find_leaks(source: str, text: str) -> list[str]:
    """The lines of a source's solutions and hidden tests that occur in a text. Lines that the
    source also has outside of them are not secret.
    """
    public = {line.strip() for line in SECRET.sub("", source).splitlines()}
    secret = set()
    for part in SECRET.findall(source):
        secret.update(line.strip() for line in part.splitlines())
    return sorted(line for line in secret - public if len(line) >= TELLING and line in text)


def write_release(folder: Path = FOLDER / "release") -> list[Path]:
    """Writes the pairs' .ipynb and the student version of every assignment; returns the latter.

    Raises ReleaseError if a student version would reveal a solution or a hidden test.
    """
    written = []
    for path in list_assignments():
        nbformat.write(read_source(path), path.with_suffix(".ipynb"))
        release = build_release(path)
        source = path.read_text(encoding="utf-8")
        text = "\n".join(f"{cell.source}\n{cell.get('outputs', '')}" for cell in release.cells)
        if leaks := find_leaks(source, text):
            raise ReleaseError(
                f"the student version would hold {leaks[0]!r}.",
                where=str(path),
                remedy="delete it from the lines outside nbgrader's marks, texts included.",
            )
        target = folder / path.stem / f"{path.stem}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(release, target)
        points = sum(exercise.points for exercise in read_assignment(path).exercises)
        print(f"{path.stem}: {points} points, in {target}")
        written.append(target)
    return written

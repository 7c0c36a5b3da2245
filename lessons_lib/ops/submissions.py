"""Reading what students hand in: any file name, broken metadata, moved or missing cells, no notebook at all.

Contract: the code is taken from a notebook's cells whatever its metadata says, and everything unusual is
said in `remarks`. Nothing of a submission decides about points: checks and points come from the
assignment's source.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from lessons_lib.ops.assignments import CHECK, Assignment
from lessons_lib.ops.sandbox import make_printable

LARGEST = 20 * 2**20  # bytes of a notebook
OLDER = "handed out in another version"


@dataclass
class Submission:
    """A notebook that was handed in. `cells`: its code; `assignment`: None where none was recognised."""

    student: str
    cells: list[str] = field(default_factory=list)
    assignment: Assignment | None = None
    remarks: list[str] = field(default_factory=list)
    digest: str = ""


def list_submissions(folder: Path) -> list[Path]:
    """Every notebook under a folder, or a single one. FileNotFoundError with a remedy for none."""
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    paths = [
        path for path in paths if ".ipynb" in path.name.lower() and "checkpoints" not in path.parent.name
    ]
    if not paths:
        found = "holds no notebook (*.ipynb)" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {found}. Remedy: SUBMISSIONS=folder with one a student.")
    return paths


def read_submission(path: Path, folder: Path, assignments: list[Assignment]) -> Submission:
    """A submission with what was noticed; the student is its path in the folder, without its ending."""
    name = path.name if path == folder else path.relative_to(folder).as_posix()
    found = Submission(make_printable(re.sub(r"\.ipynb$", "", name), longest=4096))
    if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
        found.remarks.append("a link to another file: not read")
        return found
    if not path.is_file():
        found.remarks.append("not a file: not read")
        return found
    if path.stat().st_size > LARGEST:
        found.remarks.append(
            f"larger than {LARGEST // 2**20} MB: not read; outputs cleared, it would be small"
        )
        return found
    try:
        content = path.read_bytes()
        found.digest = hashlib.sha256(content).hexdigest()
        notebook = json.loads(content.decode("utf-8-sig"))
        cells = list_cells(notebook)
    except (OSError, ValueError, TypeError, LookupError, RecursionError, MemoryError) as problem:
        found.remarks.append(f"no notebook that can be read ({type(problem).__name__}): saved only in part?")
        return found
    found.cells = [source for source, _ in cells]
    found.assignment = recognise(found.cells, assignments)
    if not found.assignment:
        found.remarks.append("no assignment recognised: none of its functions is defined")
        return found
    found.remarks += compare_metadata(notebook, found.assignment)
    if OLDER not in found.remarks:  # its checks may differ
        found.remarks += compare_cells(cells, found.assignment)
    return found


def list_cells(notebook: dict) -> list[tuple[str, dict]]:
    """Code and nbgrader settings of every code cell, of notebook formats 3 and 4."""
    cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
    listed = []
    for cell in cells:
        if cell["cell_type"] == "code":
            source = cell.get("source", cell.get("input", ""))
            text = source if isinstance(source, str) else "".join(source)
            listed.append((text, dig(cell, "metadata", "nbgrader")))
    return listed


def dig(value: object, *names: str) -> dict:
    """The dict inside dicts; an empty one where something else stands in its place."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def recognise(cells: list[str], assignments: list[Assignment]) -> Assignment | None:
    """The assignment most of whose functions are defined; file names and metadata do not matter."""
    defined = set(re.findall(r"^def (\w+)\(", "\n".join(cells), re.MULTILINE))
    found = {a.name: len(defined & {exercise.name for exercise in a.exercises}) for a in assignments}
    best = max(assignments, key=lambda a: found[a.name])
    return best if found[best.name] else None


def compare_cells(cells: list[tuple[str, dict]], assignment: Assignment) -> list[str]:
    """What is unusual about a notebook's graded cells."""
    marked = [(found[1], source, settings) for source, settings in cells if (found := CHECK.match(source))]
    order, remarks = [name for name, *_ in marked], []
    times = Counter(order)
    wanted = [exercise.name for exercise in assignment.exercises]
    for exercise in assignment.exercises:
        if times[exercise.name] != 1:
            often = "missing" if not times[exercise.name] else f"there {times[exercise.name]} times"
            remarks.append(f"the check of {exercise.name} is {often}")
        for name, source, settings in marked:
            if name == exercise.name and source.split() != exercise.public.split():
                remarks.append(f"the check of {name} was edited")
            if name == exercise.name and settings.get("points", exercise.points) != exercise.points:
                remarks.append(f"the points of {name} were edited")
    if [name for name in order if name in wanted] != [name for name in wanted if name in times]:
        remarks.append("checks were moved")
    return list(dict.fromkeys(remarks))


def compare_metadata(notebook: dict, assignment: Assignment) -> list[str]:
    """What is unusual about a notebook's metadata."""
    version, remarks = dig(notebook, "metadata", "lessons_lib").get("version"), []
    if version is None:
        remarks.append("its metadata was stripped")
    elif version != assignment.version:
        remarks.append(OLDER)
    language = dig(notebook, "metadata", "kernelspec").get("language", "python")
    if language != "python":
        remarks.append(make_printable(f"saved with a kernel for {language}; run as Python", 80))
    return remarks

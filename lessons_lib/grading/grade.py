"""Grades a folder of notebooks: students' functions run in a sandbox, tests and expected values
stay outside.

The check cells of the assignment's source run here, with the student's functions replaced by calls
into the sandbox. A notebook that redefines, edits or deletes anything leaves the tests unchanged,
and the student's code never shares a process with them. Marks are cached by content: an interrupted
run goes on, and after a change to a test everything is graded anew. The points in `overrides.csv`
(student, exercise, points, reason) in the grades' folder replace the computed ones.
"""

import ast
import functools
import hashlib
import importlib.util
import json
import re
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch
from joblib import cpu_count

from lessons_lib.errors import CourseError
from lessons_lib.grading.assignments import Assignment, list_assignments, read_assignment
from lessons_lib.grading.attempts import note_attempts, note_equal_code
from lessons_lib.grading.feedback import write_pages
from lessons_lib.grading.overrides import (
    Override,
    OverrideError,
    find_overrides,
    find_student,
    read_overrides,
    refuse_overrides,
    suggest_name,
)
from lessons_lib.grading.sandbox import (
    Sandbox,
    SandboxError,
    StudentError,
    check_sandbox,
    make_printable,
)
from lessons_lib.grading.submissions import Submission, parse_cell, read_submissions
from lessons_lib.progress import progress_bar

__all__ = ["Graded", "GradesError", "Mark", "OverrideError", "apply_overrides", "grade_folder"]

# libraries that are slow to import, and the module of each that is imported before time is counted
PRELOAD = {
    "numpy": "numpy",
    "torch": "torch",
    "pandas": "pandas",
    "matplotlib": "matplotlib.pyplot",
    "scipy": "scipy",
    "sklearn": "sklearn",
}
IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+([\w., \t]+)", re.MULTILINE)


class GradesError(CourseError):
    """A file of the grades' folder that cannot be read."""


@dataclass(frozen=True)
class Mark:
    """Points of one exercise, the points possible, and why some are missing."""

    exercise: str
    points: float
    possible: float
    message: str = ""


@dataclass
class Graded:
    """A submission's marks and the remarks about it."""

    student: str
    assignment: str
    marks: list[Mark]
    remarks: list[str]
    instructor_remarks: list[str] = field(default_factory=list)  # may name others: in no feedback

    @property
    def all_remarks(self) -> list[str]:
        """The remarks that an instructor sees."""
        return [*self.remarks, *self.instructor_remarks]

    def total(self) -> float:
        """The points of all exercises together."""
        return sum(mark.points for mark in self.marks)


def mark_exercises(
    assignment: Assignment, functions: Mapping[str, Callable], seed: int
) -> list[Mark]:
    """Runs every check of an assignment on the function of its name, with inputs drawn by the
    seed.
    """
    space: dict[str, object] = {}
    exec(assignment.setup, space)
    space |= {**functions, "GRADING_SEED": seed}
    marks = []
    for exercise in assignment.exercises:
        message = run_check(exercise.check, dict(space))
        points = 0 if message else exercise.points
        marks.append(Mark(exercise.name, points, exercise.points, message))
    return marks


def run_check(check: str, space: dict[str, object]) -> str:
    """The message of a check that fails, "" for one that passes."""
    try:
        exec(compile(check, "<check>", "exec"), space)
    except AssertionError as problem:
        return str(problem) or "a check fails"
    except StudentError as problem:
        missing = str(problem).startswith("NotImplementedError")
        return "not written yet" if missing else f"your function gives no answer: {problem}"
    except (SandboxError, OSError, MemoryError):
        raise  # the grader's errors, not the student's
    except Exception as problem:  # the check cannot process the answer
        form = f"{type(problem).__name__}: {problem}"
        return make_printable(f"your answer has another form than asked for ({form})")
    return ""


def grade_submission(submission: Submission, seed: int, unsafe: bool) -> Graded:
    """The marks of one submission."""
    assignment = submission.assignment
    remarks = list(submission.remarks)
    if not assignment:
        return Graded(submission.student, "", [], remarks, submission.instructor_remarks)
    preload = list_preloads(submission.cells)
    with Sandbox(submission.cells, preload, unsafe) as box:
        names = [exercise.name for exercise in assignment.exercises]
        functions = {name: functools.partial(box.call, name) for name in names}
        marks = mark_exercises(assignment, functions, seed)
        remarks += [
            f"code cell {number + 1} ended the process and was left out"
            for number in sorted(box.skipped)
        ]
    return Graded(
        submission.student, assignment.name, marks, remarks, submission.instructor_remarks
    )


def list_preloads(cells: list[str]) -> tuple[str, ...]:
    """The modules that the sandbox imports before it counts a cell's time: those of the slow
    libraries that the cells use.

    >>> list_preloads(["from torch import nn"])
    ('torch',)
    """
    libraries = set()
    for cell in cells:
        libraries |= {name.partition(".")[0] for name in list_imports(cell)}
    return tuple(
        module
        for library, module in PRELOAD.items()
        if library in libraries and importlib.util.find_spec(library)
    )


def list_imports(cell: str) -> set[str]:
    """The modules that a cell imports anywhere in it. A cell that cannot be parsed is searched by a
    pattern.
    """
    tree = parse_cell(cell)
    if not tree:
        names = ",".join(IMPORT.findall(cell)).split(",")
        return {name.split()[0] for name in names if name.split()}
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return modules


def grade_folder(folder: Path, grades: Path, *, unsafe: bool = False) -> pd.DataFrame:
    """Grades every notebook below a folder, one per core at a time; returns the scores.

    Writes scores.csv, feedback/ and summary.html into `grades`. unsafe: runs the students' code
    without a sandbox. Raises SandboxError, SubmissionError or OverrideError with a remedy.
    """
    folder = folder.expanduser()
    grades = grades.expanduser()
    if not unsafe:
        check_sandbox()
    torch.set_num_threads(1)
    assignments = [read_assignment(path) for path in list_assignments()]
    submissions, ignored = read_submissions(folder, assignments)
    note_attempts(submissions)
    note_equal_code(submissions)
    (grades / "marks").mkdir(parents=True, exist_ok=True)
    seed = read_seed(grades)
    graded = []
    with ThreadPoolExecutor(cpu_count()) as pool:
        jobs = [pool.submit(grade_once, entry, grades, seed, unsafe) for entry in submissions]
        try:
            with progress_bar(len(jobs), "grade", "notebook") as bar:
                for job in as_completed(jobs):
                    graded.append(job.result())
                    bar.update()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    graded.sort(key=lambda result: result.student)
    apply_overrides(graded, grades / "overrides.csv")
    table = write_scores(graded, grades / "scores.csv")
    ignored_names = [path.relative_to(folder).as_posix() for path in ignored]
    write_pages(graded, grades, ignored_names)
    return table


def grade_once(submission: Submission, grades: Path, seed: int, unsafe: bool) -> Graded:
    """The marks of a submission: those of an earlier run unless it or its assignment changed."""
    version = submission.assignment.version if submission.assignment else ""
    content = [submission.digest, version, seed, submission.student, submission.remarks]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    file = grades / "marks" / f"{key}.json"
    graded = _read_marks(file)
    if graded:
        # they name other submissions, of which new ones may have come
        graded.instructor_remarks = submission.instructor_remarks
        return graded
    try:
        seed_digest = hashlib.sha256(f"{seed} {submission.digest}".encode()).hexdigest()
        graded = grade_submission(submission, int(seed_digest, 16) % 2**31, unsafe)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(asdict(graded)), encoding="utf-8")
        part.rename(file)
    except Exception as problem:  # one student's notebook never stops the others'
        error = f"{type(problem).__name__}: {problem}"
        remark = make_printable(f"not graded, the grader failed ({error})")
        remarks = [*submission.remarks, remark]
        return Graded(submission.student, "", [], remarks, submission.instructor_remarks)
    return graded


def _read_marks(file: Path) -> Graded | None:
    """The marks that an earlier run wrote; None if it wrote none or was interrupted."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["marks"] = [Mark(**mark) for mark in content["marks"]]
        return Graded(**content)
    except (OSError, ValueError, TypeError, LookupError):
        return None


def read_seed(grades: Path) -> int:
    """The seed which, with a notebook's content, determines the inputs of hidden tests.

    It is drawn once and kept with the grades. Raises GradesError for a file without a number.
    """
    file = grades / "seed.txt"
    if not file.exists():
        file.write_text(str(secrets.randbelow(2**31)), encoding="utf-8")
    try:
        return int(file.read_text(encoding="utf-8"))
    except ValueError:
        raise GradesError(
            "it holds no number.",
            where=str(file),
            remedy="write the number of the first run, or delete it: then everything is graded "
            "anew.",
        ) from None


def apply_overrides(graded: list[Graded], file: Path) -> None:
    """Replaces marks by the instructor's points.

    Raises an OverrideError that names all wrong rows; then no row counts.
    """
    if not find_overrides(file):
        return
    overrides, problems = read_overrides(file)
    students = {result.student: result for result in graded}
    choices: dict[tuple[str, str], Override] = {}
    for override in overrides:
        names = find_student(override.student, students)
        problem = _find_problem(override, names, students)
        if problem:
            problems[override.row] = problem
            continue
        earlier = choices.setdefault((names[0], override.exercise), override)
        if earlier.points != override.points:
            problems[override.row] = f"other points than row {earlier.row} gives for the same"
    refuse_overrides(file, problems)
    ungraded = {result.student for result in graded if not result.marks}
    for (name, exercise), override in choices.items():
        result = students[name]
        marks = {mark.exercise: mark for mark in result.marks}
        possible = override.points if name in ungraded else marks[exercise].possible
        message = f"set by the instructor: {override.reason or 'no reason given'}"
        marks[exercise] = Mark(exercise, override.points, possible, message)
        result.marks = list(marks.values())


def _find_problem(override: Override, names: list[str], students: Mapping[str, Graded]) -> str:
    """What is wrong with a row; "" for one that names a student and an exercise."""
    if len(names) > 1:
        students_meant = f"{override.student!r} may be any of {len(names)} students"
        return f"{students_meant}: copy the name from scores.csv"
    if not names:
        return f"no student {override.student!r}{suggest_name(override.student, students)}"
    exercises = [mark.exercise for mark in students[names[0]].marks]
    if exercises and override.exercise not in exercises:
        return f"no exercise {override.exercise!r}{suggest_name(override.exercise, exercises)}"
    return "" if override.exercise else "the exercise is missing"


def write_scores(graded: list[Graded], file: Path) -> pd.DataFrame:
    """Writes and returns one row per student: total, points by exercise, remarks."""
    rows = []
    for result in graded:
        row = {
            "student": result.student,
            "assignment": result.assignment,
            "total": result.total(),
            "possible": sum(mark.possible for mark in result.marks),
            "remarks": "; ".join(result.all_remarks),
        }
        for mark in result.marks:
            row[mark.exercise] = mark.points
        rows.append(row)
    table = pd.DataFrame(rows)
    safe = table.copy()
    for column in ("student", "remarks"):
        safe[column] = [_escape_formula(text) for text in safe[column]]
    safe.to_csv(file, index=False)
    return table


def _escape_formula(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe comes before = and other
    signs.
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text

"""Grades a folder of notebooks: students' functions run in a sandbox, tests and expected values stay outside.

A check cell is run here, as it stands in the assignment's source, with the student's functions replaced by
calls into the sandbox. So nothing that a notebook redefines, edits or deletes touches the tests, and the
student's code never shares a process with them. Marks are kept by content: an interrupted run goes on, and
a mended test grades everything anew. `overrides.csv` (student, exercise, points, reason) in the grades'
folder has the last word.
"""

import csv
import functools
import hashlib
import json
import math
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from joblib import cpu_count

from lessons_lib.data import decode_file
from lessons_lib.errors import CourseError
from lessons_lib.ops.assignments import Assignment, list_assignments, read_assignment
from lessons_lib.ops.report import write_pages
from lessons_lib.ops.sandbox import Sandbox, SandboxError, StudentError, check_sandbox, make_printable
from lessons_lib.ops.submissions import Submission, list_submissions, read_submission
from lessons_lib.progress import progress_bar

PRELOAD = ("numpy", "torch", "pandas", "matplotlib.pyplot", "scipy", "sklearn")


class OverrideError(CourseError):
    """A line of overrides.csv that names nobody, no exercise, or no number."""


@dataclass(frozen=True)
class Mark:
    """Points of one exercise, of how many, and why not all."""

    exercise: str
    points: float
    possible: float
    message: str = ""


@dataclass
class Graded:
    """A submission's marks, with what was noticed about it."""

    student: str
    assignment: str
    marks: list[Mark]
    remarks: list[str]

    def total(self) -> float:
        """Points of all exercises."""
        return sum(mark.points for mark in self.marks)


def mark_exercises(assignment: Assignment, functions: Mapping[str, Callable], seed: int) -> list[Mark]:
    """Runs every check of an assignment on the functions of that name, with inputs drawn from the seed."""
    space: dict[str, object] = {}
    exec(assignment.setup, space)
    space |= {**functions, "GRADING_SEED": seed}
    marks = []
    for exercise in assignment.exercises:
        message = run_check(exercise.check, dict(space))
        marks.append(Mark(exercise.name, 0 if message else exercise.points, exercise.points, message))
    return marks


def run_check(check: str, space: dict[str, object]) -> str:
    """What a check says, nothing where it is passed."""
    try:
        exec(compile(check, "<check>", "exec"), space)
    except AssertionError as problem:
        return str(problem) or "a check fails"
    except StudentError as problem:
        missing = str(problem).startswith("NotImplementedError")
        return "not written yet" if missing else f"your function gives no answer: {problem}"
    except (SandboxError, OSError, MemoryError):
        raise  # ours, not the student's
    except Exception as problem:  # the answer is not what the check can look at
        form = f"{type(problem).__name__}: {problem}"
        return make_printable(f"your answer has another form than asked for ({form})")
    return ""


def grade_submission(submission: Submission, seed: int, unsafe: bool) -> Graded:
    """The marks of one submission."""
    assignment, remarks = submission.assignment, list(submission.remarks)
    if not assignment:
        return Graded(submission.student, "", [], remarks)
    code = "\n".join(submission.cells)
    preload = tuple(name for name in PRELOAD if f"import {name}" in code)  # slow to import, without fault
    with Sandbox(submission.cells, preload, unsafe) as box:
        functions = {e.name: functools.partial(box.call, e.name) for e in assignment.exercises}
        marks = mark_exercises(assignment, functions, seed)
        remarks += [
            f"code cell {number + 1} ended the process and was left out" for number in sorted(box.skipped)
        ]
    return Graded(submission.student, assignment.name, marks, remarks)


def grade_folder(folder: Path, grades: Path, *, unsafe: bool = False) -> pd.DataFrame:
    """Grades every notebook under a folder, one on every core at a time; writes scores.csv, feedback/ and
    summary.html into `grades`. SandboxError, FileNotFoundError, OverrideError say what to do."""
    if not unsafe:
        check_sandbox()
    torch.set_num_threads(1)
    assignments = [read_assignment(path) for path in list_assignments()]
    submissions = [read_submission(path, folder, assignments) for path in list_submissions(folder)]
    (grades / "marks").mkdir(parents=True, exist_ok=True)
    seed = read_seed(grades)
    graded = []
    with ThreadPoolExecutor(cpu_count()) as pool:
        jobs = [pool.submit(grade_once, one, grades, seed, unsafe) for one in submissions]
        try:
            with progress_bar(len(jobs), "grade", "notebook") as bar:
                for job in as_completed(jobs):
                    graded.append(job.result())
                    bar.update()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    graded.sort(key=lambda one: one.student)
    apply_overrides(graded, grades / "overrides.csv")
    table = write_scores(graded, grades / "scores.csv")
    write_pages(graded, grades)
    return table


def grade_once(submission: Submission, grades: Path, seed: int, unsafe: bool) -> Graded:
    """The marks of a submission, from the last run where neither it nor its assignment changed."""
    version = submission.assignment.version if submission.assignment else ""
    key = hashlib.sha256(f"{submission.digest} {version} {seed} {submission.student}".encode()).hexdigest()
    kept = grades / "marks" / f"{key}.json"
    if kept.exists():
        content = json.loads(kept.read_text(encoding="utf-8"))
        return Graded(**{**content, "marks": [Mark(**mark) for mark in content["marks"]]})
    try:
        own = int(hashlib.sha256(f"{seed} {submission.digest}".encode()).hexdigest(), 16) % 2**31
        graded = grade_submission(submission, own, unsafe)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(asdict(graded)), encoding="utf-8")
        part.rename(kept)
    except Exception as problem:  # one student's notebook never stops the others'
        remark = make_printable(f"not graded, the grader failed ({type(problem).__name__}: {problem})")
        return Graded(submission.student, "", [], [*submission.remarks, remark])
    return graded


def read_seed(grades: Path) -> int:
    """What seeds the inputs of hidden tests, with a notebook's content: drawn once, kept with the grades."""
    file = grades / "seed.txt"
    if not file.exists():
        file.write_text(str(secrets.randbelow(2**31)), encoding="utf-8")
    return int(file.read_text(encoding="utf-8"))


def apply_overrides(graded: list[Graded], file: Path) -> None:
    """Puts an instructor's points in the place of the marks. OverrideError names the row."""
    if not file.exists():
        return
    students = {one.student: one for one in graded}
    ungraded = {one.student for one in graded if not one.marks}
    for number, row in enumerate(csv.DictReader(decode_file(file).splitlines()), start=2):
        if not any(row.values()):
            continue
        try:
            name, exercise, points = row["student"], row["exercise"], float(row["points"])
            one = students.get(name) or students[name.removeprefix("'")]
            marks = {mark.exercise: mark for mark in one.marks}
            possible = points if one.student in ungraded else marks[exercise].possible
            if not math.isfinite(points):
                raise ValueError
        except (KeyError, ValueError, TypeError, AttributeError):
            raise OverrideError(
                f"{file}, row {number}: student, exercise or points are wrong: {row}.\n  Remedy: columns "
                "student, exercise, points, reason; names as in scores.csv, points as a number."
            ) from None
        reason = f"set by the instructor: {row.get('reason') or 'no reason given'}"
        one.marks = list({**marks, exercise: Mark(exercise, points, possible, reason)}.values())


def write_scores(graded: list[Graded], file: Path) -> pd.DataFrame:
    """Writes and returns a row a student: total, points by exercise, remarks."""
    rows = [
        {
            "student": one.student,
            "assignment": one.assignment,
            "total": one.total(),
            "possible": sum(mark.possible for mark in one.marks),
            "remarks": "; ".join(one.remarks),
            **{mark.exercise: mark.points for mark in one.marks},
        }
        for one in graded
    ]
    table = pd.DataFrame(rows)
    safe = table.copy()
    for column in ("student", "remarks"):  # a spreadsheet would compute a name that begins with =
        safe[column] = [f"'{text}" if text[:1] in "=+-@" and text else text for text in safe[column]]
    safe.to_csv(file, index=False)
    return table

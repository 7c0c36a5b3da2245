"""What submissions have to do with each other: several attempts of one student, equal code of
several.

Contract: adds to `instructor_remarks` and changes nothing else. Every submission is graded; which
attempt counts, and whether equal code was copied, is the instructor's to decide.
"""

import functools
import re
from collections import Counter, defaultdict

from lessons_lib.grading.assignments import build_release, find_check, list_assignments
from lessons_lib.grading.owners import find_base
from lessons_lib.grading.submissions import Submission

SHOWN = 10  # names that a remark gives; more are counted
SHORT = 200  # characters of code that two students may well write alike


def note_attempts(submissions: list[Submission]) -> None:
    """Tells of several submissions of one student to one assignment, and which is the newest."""
    for attempts in _group_attempts(submissions):
        if len(attempts) > 1:
            _note_group(attempts)


def _group_attempts(submissions: list[Submission]) -> list[list[Submission]]:
    """The submissions of each student to each assignment.

    What was not recognised belongs to the one assignment that its student handed in, if there is
    just one.
    """
    owned = [submission for submission in submissions if submission.owner]
    names = {submission.owner.name for submission in owned}
    by_name = defaultdict(list)
    for submission in owned:
        name = submission.owner.name
        base, _ = find_base(name)
        is_copy = not submission.owner.platform and base in names
        by_name[base if is_copy else name].append(submission)
    groups = []
    for members in by_name.values():
        by_assignment = defaultdict(list)
        for submission in members:
            by_assignment[submission.assignment.name if submission.assignment else ""].append(
                submission
            )
        unknown = by_assignment.pop("", [])
        if len(by_assignment) == 1:
            next(iter(by_assignment.values())).extend(unknown)
        else:
            groups.append(unknown)
        groups += by_assignment.values()
    return groups


def _note_group(attempts: list[Submission]) -> None:
    orders = {}
    for submission in attempts:
        _, number = find_base(submission.owner.name)
        orders[submission.student] = (
            submission.owner.attempt,
            0 if submission.owner.platform else number,
        )
    is_told = len(set(orders.values())) == len(attempts)
    if is_told:
        newest = max(attempts, key=lambda submission: orders[submission.student])
        remark = f"is the newest of {len(attempts)} attempts: take it"
    else:
        newest = max(attempts, key=lambda submission: submission.modified)
        remark = (
            f"was saved last of {len(attempts)} attempts, by the date of the file (their names do "
            f"not tell): "
            "take it, or ask the student"
        )
    for submission in attempts:
        others = [other.student for other in attempts if other is not submission]
        if submission is newest:
            submission.instructor_remarks.append(f"this {remark}; the others: {_name_some(others)}")
        else:
            submission.instructor_remarks.append(
                f"another attempt of the same student, {newest.student}, {remark}"
            )


def note_equal_code(submissions: list[Submission]) -> None:
    """Tells of students with equal code, that of the assignment and its empty answers left
    aside.
    """
    groups = defaultdict(list)
    for submission in submissions:
        answers = extract_answers(submission)
        if answers:
            groups[submission.assignment.name, answers].append(submission)
    for (_, answers), members in groups.items():
        is_short = sum(map(len, answers)) < SHORT
        doubt = " (so short that it may be chance)" if is_short else ""
        for submission in members:
            others = [
                other.student for other in members if _get_owner(other) != _get_owner(submission)
            ]
            if others:
                submission.instructor_remarks.append(
                    f"the same code as {_name_some(others)}{doubt}"
                )


def _get_owner(submission: Submission) -> str:
    return submission.owner.name if submission.owner else submission.student


def extract_answers(submission: Submission) -> tuple[str, ...]:
    """The cells that a student wrote, in order, without blanks at the ends of lines.

    Left out are the cells of the student version, checks, and answers that were not begun.
    """
    if not submission.assignment:
        return ()
    given = Counter(_list_given_cells(submission.assignment.name))
    answers = []
    for cell in submission.cells:
        code = _normalise_code(cell)
        is_untouched = "# YOUR CODE HERE" in code and "raise NotImplementedError" in code
        if code and code not in given and not is_untouched and not find_check(code):
            answers.append(code)
    return tuple(answers)


@functools.cache
def _list_given_cells(assignment: str) -> tuple[str, ...]:
    """The code of an assignment's student version; nothing for an assignment that has no source."""
    cells = []
    for path in list_assignments():
        if path.stem == assignment:
            cells += [cell.source for cell in build_release(path).cells if cell.cell_type == "code"]
    return tuple(_normalise_code(cell) for cell in cells)


def _normalise_code(cell: str) -> str:
    """A cell without blank lines, blanks at line ends, and an editor's marks of cells ("#%%")."""
    lines = [line.rstrip() for line in cell.splitlines()]
    return "\n".join(line for line in lines if line and not re.match(r"#\s*%%", line))


def _name_some(students: list[str]) -> str:
    names = ", ".join(sorted(students)[:SHOWN])
    more = f" and {len(students) - SHOWN} more" if len(students) > SHOWN else ""
    return names + more

"""How submissions relate to each other: several attempts of one student, equal code of several.

Contract: adds to `instructor_remarks` and changes nothing else. Every submission is graded. The
instructor decides which attempt counts, and whether equal code was copied.
"""

import functools
import re
from collections import Counter, defaultdict

from lessons_lib.grading.assignments import build_release, find_check, list_assignments
from lessons_lib.grading.owners import find_base
from lessons_lib.grading.submissions import Submission

SHOWN = 10  # names that a remark lists; further ones are counted
SHORT = 200  # characters; two students may well write the same shorter code


def note_attempts(submissions: list[Submission]) -> None:
    """Remarks on several submissions of one student to one assignment, and names the newest."""
    for attempts in _group_attempts(submissions):
        if len(attempts) > 1:
            _note_group(attempts)


def _group_attempts(submissions: list[Submission]) -> list[list[Submission]]:
    """The submissions of each student to each assignment.

    A submission that was not recognised counts to its student's only recognised assignment. If the
    student handed in several, it belongs to none of them.
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
            assignment = submission.assignment.name if submission.assignment else ""
            by_assignment[assignment].append(submission)
        unknown = by_assignment.pop("", [])
        if len(by_assignment) == 1:
            (recognised,) = by_assignment.values()
            recognised.extend(unknown)
        else:
            groups.append(unknown)
        groups += by_assignment.values()
    return groups


def _note_group(attempts: list[Submission]) -> None:
    orders = {}
    for submission in attempts:
        owner = submission.owner
        _, number = find_base(owner.name)
        orders[submission.student] = (owner.attempt, 0 if owner.platform else number)
    is_told = len(set(orders.values())) == len(attempts)
    if is_told:
        newest = max(attempts, key=lambda submission: orders[submission.student])
        remark = f"is the newest of {len(attempts)} attempts: take it"
    else:
        newest = max(attempts, key=lambda submission: submission.modified)
        remark = (
            f"was saved last of {len(attempts)} attempts, by the date of the file "
            "(their names do not tell): take it, or ask the student"
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
    """Remarks on students with equal code. The assignment's own cells and empty answers do not
    count.
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
            owner = _get_owner(submission)
            others = [other.student for other in members if _get_owner(other) != owner]
            if others:
                remark = f"the same code as {_name_some(others)}{doubt}"
                submission.instructor_remarks.append(remark)


def _get_owner(submission: Submission) -> str:
    return submission.owner.name if submission.owner else submission.student


def extract_answers(submission: Submission) -> tuple[str, ...]:
    """The code cells that a student wrote, in order, without blanks at the ends of lines.

    The cells of the student version, the checks, and answers that were not begun are left out.
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
    """The code cells of an assignment's student version; none for an assignment without a
    source.
    """
    cells = []
    for path in list_assignments():
        if path.stem == assignment:
            cells += build_release(path).cells
    return tuple(_normalise_code(cell.source) for cell in cells if cell.cell_type == "code")


def _normalise_code(cell: str) -> str:
    """A cell without blank lines, blanks at line ends, and an editor's cell marks ("#%%")."""
    lines = [line.rstrip() for line in cell.splitlines()]
    return "\n".join(line for line in lines if line and not re.match(r"#\s*%%", line))


def _name_some(students: list[str]) -> str:
    names = ", ".join(sorted(students)[:SHOWN])
    more = f" and {len(students) - SHOWN} more" if len(students) > SHOWN else ""
    return names + more

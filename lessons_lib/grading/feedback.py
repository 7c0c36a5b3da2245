"""Pages about grades: one per student, which shows no test, and one for the instructor."""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from lessons_lib.grading.owners import normalise_name
from lessons_lib.grading.submissions import escape_controls

PAGES = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True)


def write_pages(graded: list, grades: Path, ignored: Sequence[str] = ()) -> None:
    """Writes feedback/<student>.html for every student, and summary.html.

    ignored: files of the folder that are no submissions.
    """
    pages = name_pages([result.student for result in graded])
    for result in graded:
        file = grades / "feedback" / f"{pages[result.student]}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        page = PAGES.get_template("student.html").render(one=result)
        file.write_text(page, encoding="utf-8")
    parts = []
    for name in sorted({result.assignment for result in graded if result.marks}):
        results = [result for result in graded if result.assignment == name]
        parts.append(describe(results))
    ignored_names = [escape_controls(name) for name in ignored]
    page = PAGES.get_template("summary.html").render(
        parts=parts, graded=graded, ignored=ignored_names
    )
    (grades / "summary.html").write_text(page, encoding="utf-8")


def name_pages(students: list[str]) -> dict[str, str]:
    """The name of each student's page. No two names differ in capital letters alone, as some disks
    take those for one file.
    """
    names = {student: name_page(student) for student in students}
    keys = {student: normalise_name(name).casefold() for student, name in names.items()}
    counts = Counter(keys.values())
    for student, name in names.items():
        if counts[keys[student]] > 1:
            names[student] = f"{name}-{_digest(student)[:8]}"
    return names


def name_page(student: str) -> str:
    """The student's name as a path, or a digest of it if no file can have that name."""
    parts = student.split("/")
    is_too_long = max(len(part.encode()) for part in parts) > 200 or len(student.encode()) > 1000
    # a folder x.html would have the same path as the page x.html
    is_page = any(folder.lower().endswith(".html") for folder in parts[:-1])
    return _digest(student)[:20] if is_too_long or is_page else student


def _digest(student: str) -> str:
    return hashlib.sha256(student.encode()).hexdigest()


def describe(graded: list) -> dict[str, object]:
    """The summary's data on one assignment."""
    rows = []
    for result in graded:
        rows += [vars(mark) for mark in result.marks]
    marks = pd.DataFrame(rows)
    marks["full"] = marks.points >= marks.possible
    messages = {name: most_common(group.message) for name, group in marks.groupby("exercise")}
    full = marks.groupby("exercise", sort=False).full.mean()
    totals = pd.Series([result.total() for result in graded])
    possible = sum(mark.possible for mark in graded[0].marks)
    figure = Figure(figsize=(7, 2.6))
    axis = figure.subplots()
    most = max(possible, totals.max())  # an instructor may give more
    counts, *_ = axis.hist(totals, bins=range(int(most) + 2), align="left")
    axis.set(xlabel="points", ylabel="students")
    with io.BytesIO() as drawn:
        figure.savefig(drawn, format="png", bbox_inches="tight")
        image = base64.b64encode(drawn.getvalue()).decode()
    bars = [f"{points}: {int(count)}" for points, count in enumerate(counts) if count]
    return {
        "name": graded[0].assignment or "Points set by the instructor alone",
        "count": len(graded),
        "mean": f"{totals.mean():.1f}",
        "possible": possible,
        "hardest": full.idxmin(),
        "commonest": most_common(marks.message) or "none",
        "alt": f"Number of students by points: {', '.join(bars)}.",
        "image": image,
        "rows": [(name, f"{share:.0%}", messages[name]) for name, share in full.items()],
    }


def most_common(messages: pd.Series) -> str:
    """The most frequent message that is not empty."""
    counts = Counter(message for message in messages if message)
    return counts.most_common(1)[0][0] if counts else ""

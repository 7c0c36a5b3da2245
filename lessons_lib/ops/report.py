"""Pages about grades: one a student, which shows no test, and one for the instructor."""

import base64
import hashlib
import io
from collections import Counter
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

PAGES = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True)


def write_pages(graded: list, grades: Path) -> None:
    """Writes feedback/<student>.html for every student, and summary.html."""
    for one in graded:
        file = grades / "feedback" / f"{name_page(one.student)}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PAGES.get_template("student.html").render(one=one), encoding="utf-8")
    names = sorted({one.assignment for one in graded if one.marks})
    parts = [describe([one for one in graded if one.assignment == name]) for name in names]
    page = PAGES.get_template("summary.html").render(parts=parts, graded=graded)
    (grades / "summary.html").write_text(page, encoding="utf-8")


def name_page(student: str) -> str:
    """The student's name as a path; a digest of it where a part is too long for a file's name."""
    too_long = max(len(part.encode()) for part in student.split("/")) > 200
    return hashlib.sha256(student.encode()).hexdigest()[:20] if too_long else student


def describe(graded: list) -> dict[str, object]:
    """What the summary says of one assignment."""
    marks = pd.DataFrame([vars(mark) for one in graded for mark in one.marks])
    marks["full"] = marks.points >= marks.possible
    messages = {name: most_common(group.message) for name, group in marks.groupby("exercise")}
    full = marks.groupby("exercise", sort=False).full.mean()
    totals = pd.Series([one.total() for one in graded])
    possible = sum(mark.possible for mark in graded[0].marks)
    figure = Figure(figsize=(7, 2.6))
    axis = figure.subplots()
    counts, *_ = axis.hist(totals, bins=range(int(possible) + 2), align="left")
    axis.set(xlabel="points", ylabel="students")
    with io.BytesIO() as drawn:
        figure.savefig(drawn, format="png", bbox_inches="tight")
        image = base64.b64encode(drawn.getvalue()).decode()
    said = ", ".join(f"{points}: {int(count)}" for points, count in enumerate(counts) if count)
    return {
        "name": graded[0].assignment,
        "count": len(graded),
        "mean": f"{totals.mean():.1f}",
        "possible": possible,
        "hardest": full.idxmin(),
        "commonest": most_common(marks.message) or "none",
        "alt": f"Number of students by points: {said}.",
        "image": image,
        "rows": [(name, f"{share:.0%}", messages[name]) for name, share in full.items()],
    }


def most_common(messages: pd.Series) -> str:
    """The most frequent message that says something."""
    counts = Counter(message for message in messages if message)
    return counts.most_common(1)[0][0] if counts else ""

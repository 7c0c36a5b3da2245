"""What is handed in, as systems, programs and learning platforms leave it: read, or named with a
remedy.
"""

import copy
import gzip
import io
import json
import os
import random
import shutil
import unicodedata
import zipfile
from pathlib import Path, PurePath

import pytest
from mutations import count_mutations, mutate

from lessons_lib.errors import CourseError
from lessons_lib.grading import (
    assignments,
    attempts,
    feedback,
    grade,
    overrides,
    owners,
    submissions,
)

SOURCE = next(path for path in assignments.list_assignments() if path.stem == "01_masks")
ASSIGNMENT = assignments.read_assignment(SOURCE)
RELEASE = assignments.build_release(SOURCE)
SOLUTIONS = {exercise.name: exercise.solution for exercise in ASSIGNMENT.exercises}
RIGHT = ("causal_mask", "padding_mask")  # 2 + 2 points
isolated = pytest.mark.skipif(
    not shutil.which("bwrap"), reason="bubblewrap is not installed: no sandbox to test"
)


def build_notebook(right=RIGHT, note=""):
    """The student version with some exercises solved, as a dict; `note` makes it one of its own."""
    notebook = copy.deepcopy(RELEASE)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.metadata.nbgrader.grade_id in right:
            cell.source = SOLUTIONS[cell.metadata.nbgrader.grade_id] + note
    return json.loads(json.dumps(notebook))


def change_code(change):
    """A notebook whose code cells went through an editor."""
    notebook = build_notebook()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = change(cell["source"])
    return notebook


def put(file, content=None):
    """Writes a notebook, or other content, to a file in folders of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = build_notebook() if content is None else content
    if isinstance(content, dict):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    file.write_bytes(content)
    return file


def read(file, folder=None):
    return submissions.read_submission(file, folder or file.parent, [ASSIGNMENT])


def read_all(folder):
    """The submissions of a folder by student, with what they have to do with each other."""
    read_ones, _ = submissions.read_submissions(folder, [ASSIGNMENT])
    attempts.note_attempts(read_ones)
    attempts.note_equal_code(read_ones)
    return {one.student: one for one in read_ones}


def zip_notebook(name="01_masks.ipynb"):
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, json.dumps(build_notebook()))
        return buffer.getvalue()


# What systems and programs leave behind


@pytest.mark.parametrize(
    "left",
    [
        ".ipynb_checkpoints/01_masks-checkpoint.ipynb",
        "deep/er/.ipynb_checkpoints/x-checkpoint.ipynb",
        "__MACOSX/._01_masks.ipynb",
        "__MACOSX/ann/._01_masks.ipynb",
        "._01_masks.ipynb",
        ".~01_masks.ipynb",
        "~$01_masks.ipynb",
        ".01_masks.ipynb.swp",
        ".hidden/01_masks.ipynb",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "__pycache__/masks.pyc",
        "node_modules/x/demo.ipynb",
        "lib/site-packages/x/demo.ipynb",
        "ann\\__MACOSX\\._01_masks.ipynb",
    ],
)
def test_what_a_system_left_is_no_student(left, tmp_path):
    """Failing means instructors find students in the table whom nobody knows."""
    put(tmp_path / "ann" / "01_masks.ipynb")
    put(tmp_path / "ann" / left, b"\x00\x05\x16\x07")
    assert list(read_all(tmp_path)) == ["ann/01_masks"]


def test_a_python_of_its_own_holds_no_students(tmp_path):
    """Failing means notebooks of libraries are graded, because a student handed in a whole
    project.
    """
    put(tmp_path / "ann" / "01_masks.ipynb")
    put(tmp_path / "ann" / "env" / "pyvenv.cfg", "home = x")
    put(tmp_path / "ann" / "env" / "share" / "demo.ipynb")
    assert list(read_all(tmp_path)) == ["ann/01_masks"]


def test_checkpoint_beside_its_notebook_is_named_and_not_graded(tmp_path):
    """Failing means a student has two rows, one of them with an older state."""
    put(tmp_path / "cid" / "01_masks.ipynb")
    put(tmp_path / "cid" / "01_masks-checkpoint.ipynb")
    (one,) = read_all(tmp_path).values()
    assert one.student == "cid/01_masks"
    assert "01_masks-checkpoint.ipynb" in one.instructor_remarks[0]


@pytest.mark.parametrize(
    ("file", "others"),
    [
        ("dee/.ipynb_checkpoints/01_masks-checkpoint.ipynb", []),
        ("dee/01_masks-checkpoint.ipynb", []),
        (".ipynb_checkpoints/dee-checkpoint.ipynb", ["ann.ipynb", "ben.ipynb"]),
    ],
)
def test_checkpoint_that_is_the_only_copy_is_graded_and_named(file, others, tmp_path):
    """Failing means a student is missing, or an older state is graded as if it was handed in."""
    for other in others:
        put(tmp_path / other)
    put(tmp_path / file)
    one = read_all(tmp_path)[file.removesuffix(".ipynb")]
    assert one.assignment is ASSIGNMENT
    assert "Jupyter's own copy" in one.remarks[0]


@pytest.mark.parametrize(
    "name", ["checkpoints", "week3-checkpoints", "ipynb_checkpoints", "feedback", "build"]
)
def test_names_of_exercises_hide_no_notebooks(name, tmp_path):
    """Failing means a whole class is not graded because its exercise is called checkpoints."""
    put(tmp_path / name / "ann.ipynb")
    put(tmp_path / name / "ben.ipynb")
    assert set(read_all(tmp_path)) == {f"{name}/ann", f"{name}/ben"}
    assert set(read_all(tmp_path / name)) == {"ann", "ben"}


# Cells as editors leave them


def replace_first_blank(source):
    return source.replace(" = ", "\u00a0= ", 1)


EDITORS = {
    "CRLF": lambda source: source.replace("\n", "\r\n"),
    "CR": lambda source: source.replace("\n", "\r"),
    "CR CR LF": lambda source: source.replace("\n", "\r\r\n"),
    "CR at line ends": lambda source: source.replace("\n", " \r\n\n"),
    "blank first line": lambda source: "\n \n" + source,
    "cell marker": lambda source: "#%%\n" + source,
    "cell marker with title": lambda source: "# %% [code] my cell\n" + source,
    "leading comment": lambda source: "# done, I think\n" + source,
    "cell magic": lambda source: "%%time\n" + source,
    "trailing spaces": lambda source: source.replace("\n", "  \t\n") + " ",
    "BOM": lambda source: "\ufeff" + source,
    "no-break space in code": replace_first_blank,
    "no-break space in comment": lambda source: source.replace("# Check: ", "#\u00a0Check:\u00a0"),
    "list of lines": lambda source: source.splitlines(keepends=True),
    "list without line ends": str.splitlines,
    "other quotes": lambda source: source.replace('"', "'") if "'" not in source else source,
}


@pytest.mark.parametrize("editor", EDITORS)
def test_editors_leave_no_remark(editor, tmp_path):
    """Failing means honest students are suspected of editing checks, because of their editor."""
    one = read(put(tmp_path / "ann.ipynb", change_code(EDITORS[editor])))
    assert one.remarks == []


@isolated
@pytest.mark.parametrize("editor", ["CR", "no-break space in code", "list without line ends"])
def test_editors_cost_no_points(editor, tmp_path):
    """Failing means right answers get no points, because of signs that nobody sees."""
    one = read(put(tmp_path / "ann.ipynb", change_code(EDITORS[editor])))
    assert grade.grade_submission(one, 7, False).total() == 4


def test_no_break_spaces_in_texts_stay():
    """Failing means a right answer that looks for no-break spaces is graded as another one."""
    source = 'def clean(text):\n    return text.replace("\u00a0", " ")'
    assert submissions.mend_source(source) == source


def edit_check(source):
    return (
        source.replace("assert seen.dtype == bool", "assert True")
        if "# Check" in source
        else source
    )


def drop_check(source):
    return "pass" if source.startswith("# Check: reach") else source


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (edit_check, "the check of causal_mask was edited"),
        (drop_check, "the check of reach is missing"),
        (
            lambda s: s.replace("assert ", "# assert ") if "# Check: reach" in s else s,
            "the check of reach was edited",
        ),
        (
            lambda s: s.replace("\n", "\r\n", 3) + "\nx = 1" if "# Check: reach" in s else s,
            "reach was edited",
        ),
        (
            lambda s: "seen = 0\n" + s if "# Check: reach" in s else s,
            "the check of reach was edited",
        ),
    ],
)
def test_edited_checks_are_still_told(change, remark, tmp_path):
    """Failing means forgiving editors forgives students who edit their checks."""
    one = read(put(tmp_path / "ann.ipynb", change_code(change)))
    assert len(one.remarks) == 1 and remark in one.remarks[0], one.remarks


@pytest.mark.parametrize(
    "definition",
    [
        "def causal_mask(length):\n    pass",
        "if True:\n    def causal_mask(length):\n        pass",
        "async def causal_mask(length):\n    pass",
        "@staticmethod\ndef causal_mask(\n    length,\n): pass",
        "causal_mask = lambda length: length",
        "%matplotlib inline\nif True:\n    def causal_mask (length):\n        pass",
        "def (\n\tasync def causal_mask(length):",
    ],
)
def test_functions_are_recognised_however_they_are_defined(definition):
    """Failing means a whole notebook gets no points, because its functions stand under an `if`."""
    assert submissions.recognise([definition], [ASSIGNMENT]) is ASSIGNMENT


def test_a_call_is_no_definition():
    """Failing means a scratch notebook counts as an assignment."""
    assert (
        submissions.recognise(["causal_mask(3)", "# def causal_mask(length):"], [ASSIGNMENT])
        is None
    )


@pytest.mark.parametrize(
    ("cell", "libraries"),
    [
        ("import torch", ("torch",)),
        ("from torch import nn", ("torch",)),
        ("import torch.nn as nn", ("torch",)),
        ("import numpy as np, torch.nn.functional as F", ("numpy", "torch")),
        ("from matplotlib import pyplot", ("matplotlib.pyplot",)),
        ("import matplotlib.pyplot as plt", ("matplotlib.pyplot",)),
        ("from sklearn.linear_model import LinearRegression", ("sklearn",)),
        ("%matplotlib inline\nimport os, scipy.stats", ("scipy",)),
        ("def f():\n    import pandas", ("pandas",)),
        ("print('import torch')", ()),
        ("from . import torch", ()),
        ("import torchvision", ()),
    ],
)
def test_slow_imports_are_known_however_they_are_written(cell, libraries):
    """Failing means a cell's limit is used up by an import, and right answers do not count."""
    assert grade.list_preloads([cell]) == libraries


# What is no notebook


def cut_notebook():
    return json.dumps(build_notebook())[:3000]


CONFLICT = json.dumps(build_notebook(), indent=1).replace("\n  {", "\n<<<<<<< HEAD\n  {", 1)
NO_NOTEBOOKS = {
    "login page": (
        "\n\n<!DOCTYPE html>\n<html><title>course</title>Sign in</html>",
        "asks to log in",
    ),
    "page of GitHub": (
        "<html><title>x · GitHub</title><a href='https://github.com'></html>",
        "GitHub",
    ),
    "page of Colab": ("<!doctype html><html><title>Colab</title></html>", "Colab"),
    "exported page": ("<!-- saved -->\n<html><div class='jp-Notebook'></div></html>", "exported"),
    "other page": ("<html><body>hello</body></html>", "a web page"),
    "saved page": ("From: <Saved by Blink>\nMIME-Version: 1.0\n", "MHTML"),
    "conflict": (CONFLICT, "merge"),
    "conflict at the top": ("<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> main\n", "merge"),
    "pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "Git LFS"),
    "empty": ("", "empty"),
    "blank": (" \n\n", "nothing but blanks"),
    "zeros": (b"\x00" * 4096, "nothing but blanks or zeros"),
    "zip": (zip_notebook(), "a zip archive with 1 notebook"),
    "word": (zip_notebook("word/document.xml"), "a Word document"),
    "gz": (gzip.compress(b"{}"), "gzip"),
    "rar": (b"Rar!\x1a\x07\x01\x00", "RAR"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    "picture": (b"\x89PNG\r\n\x1a\n", "a picture"),
    "script": ("# In[1]:\nimport numpy as np\n", "a Python script"),
    "not found": ('{"message": "Not Found"}', 'server ("Not Found")'),
    "colab link": ('{"url": "https://colab", "doc_id": "1", "email": "a@b.c"}', "a link"),
    "plain link": ("https://colab.research.google.com/drive/1\n", "a link"),
    "cut": (cut_notebook(), "breaks off"),
    "cut in UTF-16": (cut_notebook().encode("utf-16"), "breaks off"),
    "damaged": ('{"cells": [,]' + " " * 40 + "}", "damaged JSON at line 1, column 12"),
    "list": ("[1, 2]", "no notebook"),
    "other object": ('{"a": 1}', "it has a"),
    "cells no list": ('{"cells": {"0": 1}}', "`cells`"),
    "cells no cells": ('{"cells": [1, "x"]}', "none of its cells"),
    "text": ("Dear professor, here is my homework", "a text"),
    "binary": (bytes(range(128, 256)) * 9, "no notebook"),
}


@pytest.mark.parametrize("kind", NO_NOTEBOOKS)
def test_what_is_no_notebook_is_named_with_what_to_ask_for(kind, tmp_path):
    """Failing means an instructor must open a file with other tools to learn what to tell its
    student.
    """
    content, what = NO_NOTEBOOKS[kind]
    (remark,) = read(put(tmp_path / "ann.ipynb", content)).remarks
    assert remark.startswith("not read: ") and what in remark and "; ask for" in remark, remark


def make_readable():
    """Files that do hold a notebook, as bytes."""
    text = json.dumps(build_notebook(note="\n# für Zoë"), ensure_ascii=False)
    return {
        "UTF-8 with BOM": text.encode("utf-8-sig"),
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without mark": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32"),
        "Windows-1252": text.encode("cp1252"),
        "one bad byte": text.encode().replace("ë".encode(), b"\xc3"),
        "blanks before": b"\n\n " + text.encode(),
        "rest of a longer file": text.encode() + b'tadata": {}}',
        "zeros behind": text.encode() + b"\x00" * 512,
        "line ends in texts": text.replace("\\n", "\n").encode(),
        "Jupyter's server": json.dumps(
            {"name": "x", "type": "notebook", "content": json.loads(text)}
        ).encode(),
    }


@pytest.mark.parametrize("kind", make_readable())
def test_notebooks_are_read_however_they_were_saved(kind, tmp_path):
    """Failing means a student gets no points for a file that can be read."""
    one = read(put(tmp_path / "ann.ipynb", make_readable()[kind]))
    assert one.assignment is ASSIGNMENT
    assert "# Check: reach" in "\n".join(one.cells)


def test_damaged_cells_cost_themselves_alone(tmp_path):
    """Failing means one broken cell costs a student every point."""
    notebook = build_notebook()
    notebook["cells"] += [7, {"cell_type": "code", "source": 3}, {"source": "x"}]
    one = read(put(tmp_path / "ann.ipynb", notebook))
    total = len(notebook["cells"])
    assert one.remarks == [f"damaged and left out: cell {total - 2}, {total - 1}, {total}"]
    assert one.assignment is ASSIGNMENT


def test_merge_conflict_inside_a_cell_is_told(tmp_path):
    """Failing means nobody learns why an answer that was right does not count."""
    notebook = build_notebook()
    notebook["cells"][-1] = {
        "cell_type": "code",
        "source": "<<<<<<< HEAD\nx = 1\n=======\n>>>>>>> main\n",
    }
    assert any(
        "Git merge" in remark for remark in read(put(tmp_path / "a.ipynb", notebook)).remarks
    )


# Files that are no notebooks by their names


@pytest.mark.parametrize(
    "name", ["eve.zip", "hal.py", "ida.html", "jan.pdf", "kim.docx", "leo", "mia.ipnyb", "nia.txt"]
)
def test_other_files_get_a_row(name, tmp_path):
    """Failing means a student who handed in something else is missing, and nobody notices."""
    put(tmp_path / "ann.ipynb")
    put(tmp_path / name, "something")
    (remark,) = read_all(tmp_path)[name].remarks
    assert remark.startswith("not read: ")


@pytest.mark.parametrize(
    "name", ["ann.json", "ann", "ann.txt", "ann.ipynb.txt", "ANN.IPYNB", "ann.ipynb (1)"]
)
def test_notebooks_under_other_names_are_read(name, tmp_path):
    """Failing means a student gets no points because a browser or a mail changed the file's
    name.
    """
    put(tmp_path / name)
    (one,) = read_all(tmp_path).values()
    assert one.assignment is ASSIGNMENT


def test_what_belongs_to_a_notebook_is_told_there(tmp_path):
    """Failing means every picture and export is a student of its own, or vanishes without a
    word.
    """
    put(tmp_path / "ann" / "01_masks.ipynb")
    for name in ("01_masks.html", "helper.py", "figure.png", "data/rows.csv", "README.md"):
        put(tmp_path / "ann" / name, "x")
    read_ones, ignored = submissions.read_submissions(tmp_path, [ASSIGNMENT])
    (one,) = read_ones
    assert one.instructor_remarks == ["handed in with it, not read: 01_masks.html, helper.py"]
    assert {path.name for path in ignored} == {"figure.png", "rows.csv", "README.md"}


def test_folders_without_a_notebook_get_a_row(tmp_path):
    """Failing means a student who handed in an empty folder is missing."""
    put(tmp_path / "ann" / "01_masks.ipynb")
    (tmp_path / "ben").mkdir()
    put(tmp_path / "cid" / "figure.png", "x")
    put(tmp_path / "dee" / "data" / "rows.csv", "x")
    read_ones = read_all(tmp_path)
    assert set(read_ones) == {"ann/01_masks", "ben", "cid", "dee"}
    assert "folder without a notebook" in read_ones["ben"].remarks[0]
    assert "figure.png" in read_ones["cid"].instructor_remarks[0]


def test_unpacked_archive_is_no_second_submission(tmp_path):
    """Failing means a student has two rows once the instructor did as the remark said."""
    put(tmp_path / "eve.zip", zip_notebook())
    put(tmp_path / "eve" / "01_masks.ipynb")
    assert list(read_all(tmp_path)) == ["eve/01_masks"]


def test_what_platforms_write_about_a_submission_is_none(tmp_path):
    """Failing means comments count as submissions, or a student who only typed a text is
    missing.
    """
    put(tmp_path / "Ann Li_11_assignsubmission_file_" / "01_masks.ipynb")
    put(tmp_path / "Ann Li_11_assignsubmission_onlinetext_" / "onlinetext.html", "<p>x")
    put(tmp_path / "Ben Ko_12_assignsubmission_onlinetext_" / "onlinetext.html", "<p>x")
    put(tmp_path / "01_cid_attempt_2026-03-04-10-11-12_01.ipynb")
    put(tmp_path / "01_cid_attempt_2026-03-04-10-11-12.txt", "Name: Cid")
    assert set(read_all(tmp_path)) == {
        "01_cid_attempt_2026-03-04-10-11-12_01",
        "Ann Li_11_assignsubmission_file_/01_masks",
        "Ben Ko_12_assignsubmission_onlinetext_/onlinetext.html",
    }


# Attempts, and equal code


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("doejane_12345_6789012_01_masks.ipynb", "doejane_12345_6789345_01_masks-1.ipynb"),
        ("doejane_12345_6789345_01_masks-2.ipynb", "doejane_LATE_12345_6789999_01_masks-3.ipynb"),
        ("anon_T5gV9_6789012_a.ipynb", "anon_T5gV9_6789345_a-1.ipynb"),
        (
            "W 1_mj_attempt_2026-03-04-10-11-12_a.ipynb",
            "W 1_mj_attempt_2026-03-05-09-00-00_b.ipynb",
        ),
        ("Jo Li_7_assignsubmission_file_/a.ipynb", "Jo Li_7_assignsubmission_file_/a (1).ipynb"),
        ("Jo Li_7_assignsubmission_file_a.ipynb", "Jo Li_7_assignsubmission_file_a-1.ipynb"),
        ("submission_123456788/a.ipynb", "submission_123456789/a.ipynb"),
        ("1-2 - Jo Li - Mar 4, 2026 1011 AM/a.ipynb", "1-2 - Jo Li - Mar 4, 2026 312 PM/a.ipynb"),
        ("1-2 - Jo Li - Sep 4, 2026 1011 AM/a.ipynb", "1-2 - Jo Li - Oct 2, 2026 911 AM/a.ipynb"),
        ("Jo Li/Masks/Version 2/a.ipynb", "Jo Li/Masks/Version 10/b.ipynb"),
        (
            "jo+01_masks+2026-03-04 10:11:12 UTC/a.ipynb",
            "jo+01_masks+2026-03-05 10:11:12 UTC/a.ipynb",
        ),
        ("jo/a.ipynb", "jo/a (1).ipynb"),
        ("jo/a.ipynb", "jo/a-Copy1.ipynb"),
        ("jo/a.ipynb", "jo (2)/a.ipynb"),
        ("jo.ipynb", "jo-2.ipynb"),
        ("jo.ipynb", "jo_final.ipynb"),
        ("jo_2026-03-04.ipynb", "jo_2026-03-05.ipynb"),
    ],
)
def test_attempts_of_one_student_are_told(older, newer, tmp_path):
    """Failing means the older of two attempts counts, or a student is in the table twice without a
    word.
    """
    put(tmp_path / "submission_metadata.yml", GRADESCOPE_NAMES)
    put(tmp_path / older)
    put(tmp_path / newer, build_notebook(note="\n# better"))
    put(tmp_path / "someone.ipynb", build_notebook(note="\n# else"))
    read_ones = read_all(tmp_path)
    older, newer = older.removesuffix(".ipynb"), newer.removesuffix(".ipynb")
    (old_remark,) = read_ones[older].instructor_remarks
    (new_remark,) = read_ones[newer].instructor_remarks
    assert newer in old_remark and "is the newest of 2 attempts" in old_remark
    assert older in new_remark and "this is the newest" in new_remark
    assert read_ones["someone"].instructor_remarks == []


GRADESCOPE_NAMES = "".join(
    f'submission_{number}:\n  :submitters:\n  - :name: Jo Li\n    :sid: "7"\n    :email: '
    f"jo@example.edu\n"
    for number in (123456788, 123456789)
)


@pytest.mark.parametrize(
    "names",
    [
        ("student-1.ipynb", "student-2.ipynb"),
        ("doejane_12345_6789012_a.ipynb", "doejohn_12346_6789013_a.ipynb"),
        ("week1/ann.ipynb", "week2/ann.ipynb"),
        ("submission_1/a.ipynb", "submission_2/a.ipynb"),
        ("Jo Li_7_assignsubmission_file_/a.ipynb", "Jo Li_8_assignsubmission_file_/a.ipynb"),
    ],
)
def test_two_students_are_not_one(names, tmp_path):
    """Failing means an instructor leaves a student out as the older attempt of another."""
    for number, name in enumerate(names):
        put(tmp_path / name, build_notebook(note=f"\n# {number}"))
    assert [one.instructor_remarks for one in read_all(tmp_path).values()] == [[], []]


def test_attempts_without_an_order_are_told_by_date(tmp_path):
    """Failing means a guess which attempt is the newer passes for knowledge."""
    for time, name in enumerate(("b.ipynb", "a.ipynb"), 1):
        file = put(
            tmp_path / "Jo Li_7_assignsubmission_file_" / name, build_notebook(note=f"\n# {name}")
        )
        os.utime(file, (time, time))
    read_ones = read_all(tmp_path)
    assert (
        "by the date of the file"
        in read_ones["Jo Li_7_assignsubmission_file_/b"].instructor_remarks[0]
    )
    assert (
        "this was saved last" in read_ones["Jo Li_7_assignsubmission_file_/a"].instructor_remarks[0]
    )


def test_unreadable_attempt_points_to_the_readable_one(tmp_path):
    """Failing means an instructor asks a student for what is already there."""
    put(tmp_path / "jo_123_4567_a.ipynb", "")
    put(tmp_path / "jo_123_4568_a-1.ipynb")
    assert "jo_123_4568_a-1" in read_all(tmp_path)["jo_123_4567_a"].instructor_remarks[0]


@pytest.mark.parametrize("editor", ["CRLF", "cell marker", "trailing spaces", "list of lines"])
def test_equal_code_is_told_whatever_the_editor(editor, tmp_path):
    """Failing means a copied notebook passes for a student's own."""
    put(tmp_path / "ann.ipynb")
    put(tmp_path / "ben.ipynb", change_code(EDITORS[editor]))
    put(tmp_path / "cid.ipynb", build_notebook(note="\n# my own"))
    read_ones = read_all(tmp_path)
    assert "the same code as ben" in read_ones["ann"].instructor_remarks[0]
    assert "the same code as ann" in read_ones["ben"].instructor_remarks[0]
    assert read_ones["cid"].instructor_remarks == []


def test_untouched_notebooks_are_no_copies(tmp_path):
    """Failing means students who handed in what they were given are suspected of copying."""
    for name in ("ann", "ben"):
        put(tmp_path / f"{name}.ipynb", build_notebook(right=()))
    assert all(not one.instructor_remarks for one in read_all(tmp_path).values())


def test_feedback_names_no_other_student(tmp_path):
    """Failing means a student reads in the feedback who else has the same code."""
    graded = grade.Graded("ann", "", [], ["not read"], ["the same code as ben"])
    feedback.write_pages([graded], tmp_path)
    assert "ben" not in (tmp_path / "feedback" / "ann.html").read_text(encoding="utf-8")
    assert "the same code as ben" in (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert (
        grade.write_scores([graded], tmp_path / "scores.csv").remarks[0]
        == "not read; the same code as ben"
    )


# Odd files and folders


def test_odd_entries_are_one_remark_each(tmp_path):
    """Failing means a pipe stops grading for ever, or a broken link costs everybody's grades."""
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "broken.ipynb").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "up").symlink_to(tmp_path.parent)
    put(tmp_path / "a\nb\x1b[31m\u202e.ipynb")
    put(tmp_path / ("x" * 249 + ".ipynb"), "{")
    put(tmp_path / os.fsdecode(b"J\xfcrgen.ipynb"), "{")
    read_ones = read_all(tmp_path)
    assert len(read_ones) == 8
    assert "does not exist" in read_ones["broken"].remarks[0]
    assert "a pipe" in read_ones["fifo"].remarks[0]
    assert read_ones["a\\nb\\x1b[31m\\u202e"].assignment is ASSIGNMENT
    graded = [grade.Graded(one.student, "", [], one.remarks) for one in read_ones.values()]
    feedback.write_pages(graded, tmp_path / "grades")
    grade.write_scores(graded, tmp_path / "scores.csv")
    assert len((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()) == 9


def test_what_may_not_be_opened_is_one_remark(tmp_path, monkeypatch):
    """Failing means one folder without rights stops a class's grades."""
    put(tmp_path / "ann.ipynb")
    put(tmp_path / "ben.ipynb")
    put(tmp_path / "cid" / "01_masks.ipynb")
    scandir, path_open = os.scandir, Path.open

    def refuse_folder(path):
        if Path(path).name == "cid":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    def refuse_file(path, *arguments, **options):
        if path.name == "ben.ipynb":
            raise PermissionError(13, "Permission denied")
        return path_open(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", refuse_folder)
    monkeypatch.setattr(Path, "open", refuse_file)
    read_ones = read_all(tmp_path)
    assert read_ones["ann"].remarks == []
    assert "chmod" in read_ones["ben"].remarks[0]
    assert read_ones["cid"].remarks


@pytest.mark.parametrize("kind", ["missing", "empty", "only pictures", "archive", "pipe"])
def test_nothing_to_grade_is_a_clear_error(kind, tmp_path):
    """Failing means a mistyped folder ends in a traceback, or a pipe is waited for."""
    folder = tmp_path / "class.zip"
    if kind == "empty":
        folder.mkdir()
    elif kind == "only pictures":
        put(folder / "a.png", "x")
    elif kind == "archive":
        put(folder, zip_notebook())
    elif kind == "pipe":
        os.mkfifo(folder)
    with pytest.raises(submissions.SubmissionError) as caught:
        submissions.list_submissions(folder)
    assert caught.value.where and caught.value.remedy


# Names of pages, and an instructor's points


@pytest.mark.parametrize(
    "students",
    [
        ("ann", "Ann"),
        ("Zo\u00eb", "Zoe\u0308"),
        ("a/b", "a_b", "a/B"),
        ("x", "x.html/01_masks"),
        ("y" * 250, "y" * 251),
        ("d/" * 700 + "a", "d/" * 700 + "b"),
    ],
)
def test_pages_of_two_students_are_two_files(students, tmp_path):
    """Failing means a student reads another's feedback, on a disk that knows no capitals for
    example.
    """
    feedback.write_pages([grade.Graded(name, "", [], ["x"]) for name in students], tmp_path)
    pages = feedback.name_pages(list(students))
    keys = {unicodedata.normalize("NFC", page).casefold() for page in pages.values()}
    assert len(keys) == len(students)
    for name, page in pages.items():
        assert f"<h1>{name}</h1>" in (tmp_path / "feedback" / f"{page}.html").read_text(
            encoding="utf-8"
        )


def test_students_whose_names_look_the_same_stay_two(tmp_path):
    """Failing means two rows of the table cannot be told apart, and one's points become the
    other's.
    """
    put(tmp_path / "a\nb.ipynb")
    put(tmp_path / "a\\nb.ipynb")
    assert len(read_all(tmp_path)) == 2


ROWS = [
    ["student", "exercise", "points", "reason"],
    ["Zo\u00eb M\u00fcller", "reach", "1.5", "oral, twice"],
]


def write_table(file, separator=",", encoding="utf-8", first="", points="1.5", line_end="\n"):
    header, (student, exercise, _, reason) = ROWS
    cells = [student, exercise, f'"{points}"', f'"{reason}"']
    lines = [first, separator.join(header), separator.join(cells)]
    file.write_bytes(line_end.join(line for line in lines if line).encode(encoding))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoding": "utf-8-sig"},
        {"encoding": "cp1252"},
        {"encoding": "utf-16"},
        {"separator": ";", "points": "1,5", "encoding": "cp1252"},
        {"separator": "\t", "encoding": "utf-16"},
        {"separator": ";", "first": "sep=;"},
        {"line_end": "\r\n"},
        {"line_end": "\r"},
        {"points": " 1.5 "},
    ],
)
def test_overrides_are_read_from_any_spreadsheet(options, tmp_path):
    """Failing means an instructor must know what their spreadsheet writes."""
    graded = [grade.Graded("Zo\u00eb M\u00fcller", "", [], [])]
    write_table(tmp_path / "overrides.csv", **options)
    grade.apply_overrides(graded, tmp_path / "overrides.csv")
    assert graded[0].marks == [
        grade.Mark("reach", 1.5, 1.5, "set by the instructor: oral, twice"),
    ]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("spelling", ["{}", " {} ", "'{}"])
def test_names_from_a_mac_match(form, spelling, tmp_path):
    """Failing means an instructor's points are refused for a name that looks right."""
    name = "Zo\u00eb M\u00fcller/01_masks"
    other = "NFD" if form == "NFC" else "NFC"
    graded = [grade.Graded(unicodedata.normalize(form, name), "", [], [])]
    typed = spelling.format(unicodedata.normalize(other, name))
    put(tmp_path / "o.csv", f"student,exercise,points\n{typed},reach,3")
    grade.apply_overrides(graded, tmp_path / "o.csv")
    assert graded[0].total() == 3


def test_reasons_with_commas_are_whole(tmp_path):
    """Failing means half of a reason is lost, because nobody quoted it."""
    put(tmp_path / "o.csv", "student,exercise,points,reason\nann,reach,1,late, ill\n")
    (override,), _ = overrides.read_overrides(tmp_path / "o.csv")
    assert override.reason == "late, ill"


def test_all_wrong_rows_are_named_at_once_and_nothing_is_applied(tmp_path):
    """Failing means an instructor mends a table row by row, or half of it counts."""
    graded = [
        grade.Graded(name, "01_masks", [grade.Mark("reach", 0, 4)], []) for name in ("ann", "ben")
    ]
    rows = [
        "ann,reach,2,x",
        "Ann,reach,1,x",
        "",
        "ben,reech,1,x",
        "ben,reach,much,x",
        "ann,reach,3,x",
        "zz,reach,1,x",
    ]
    put(tmp_path / "o.csv", "\n".join(["student,exercise,points,reason", *rows]))
    with pytest.raises(grade.OverrideError) as caught:
        grade.apply_overrides(graded, tmp_path / "o.csv")
    message = str(caught.value)
    for part in (
        "row 3",
        "mean ann",
        "row 5",
        "mean reach",
        "row 6",
        "'much'",
        "row 7",
        "row 2 gives",
        "row 8",
    ):
        assert part in message, message
    assert [one.total() for one in graded] == [0, 0]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("ann,reach,1,x\n", "no column student"),
        ('student,exercise,points,reason\nann,reach,1,"late\nben,reach,1,x\n', "row 2"),
        ("student,exercise,points\nann,reach,1_0\n", "'1_0'"),
        ("student,exercise,points\nann,reach,nan\n", "'nan'"),
        ("student,exercise,points\nann,,1\n", "row 2"),
        ("student,exercise,points\nann\n", "row 2"),
    ],
)
def test_overrides_that_cannot_be_meant_are_refused(content, part, tmp_path):
    """Failing means rows vanish behind an open quotation mark, or 1_0 becomes ten points."""
    put(tmp_path / "o.csv", content)
    with pytest.raises(grade.OverrideError, match=part):
        grade.apply_overrides([grade.Graded("ann", "", [], [])], tmp_path / "o.csv")


@pytest.mark.parametrize(
    "name", ["overrides.xlsx", "Overrides.csv", "overrides.csv.txt", "overrides.csv"]
)
def test_overrides_of_another_kind_are_not_passed_over(name, tmp_path):
    """Failing means an instructor's points do not count, because of the table's name or format."""
    put(tmp_path / name, zip_notebook("xl/workbook.xml"))
    with pytest.raises(grade.OverrideError, match=r"save the table as CSV"):
        grade.apply_overrides([], tmp_path / "overrides.csv")


# Grades of earlier runs


def test_interrupted_marks_and_seeds_are_no_traceback(tmp_path, monkeypatch):
    """Failing means a run that was cut off stops every later one."""
    (tmp_path / "marks").mkdir()
    monkeypatch.setattr(grade, "grade_submission", lambda *_: grade.Graded("ann", "", [], []))
    one = submissions.Submission("ann")
    grade.grade_once(one, tmp_path, 0, False)
    (file,) = (tmp_path / "marks").iterdir()
    file.write_text('{"student": "a', encoding="utf-8")
    assert grade.grade_once(one, tmp_path, 0, False).student == "ann"
    (tmp_path / "seed.txt").write_text("")
    with pytest.raises(CourseError, match=r"seed\.txt"):
        grade.read_seed(tmp_path)


def test_remarks_about_others_are_of_today(tmp_path, monkeypatch):
    """Failing means a newer attempt is not told, because the older one was graded before it
    came.
    """
    (tmp_path / "marks").mkdir()
    monkeypatch.setattr(
        grade, "grade_submission", lambda one, *_: grade.Graded(one.student, "", [], [])
    )
    grade.grade_once(submissions.Submission("ann"), tmp_path, 0, False)
    today = submissions.Submission("ann", instructor_remarks=["the same code as ben"])
    monkeypatch.setattr(grade, "grade_submission", lambda *_: pytest.fail("graded again"))
    assert grade.grade_once(today, tmp_path, 0, False).instructor_remarks == [
        "the same code as ben"
    ]


# Anything at all

VALUES = [None, True, 7, 1e400, "", "x", "\ud83d", [], [1], ["a", 2], {}, {"a": 1}, [[[]]]]


def list_places(value, path=()):
    """The path to everything inside JSON."""
    yield path
    members = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, member in members:
        yield from list_places(member, (*path, key))


def change_structure(draw):
    """A notebook in which something stands in the place of something else, or is missing."""
    notebook = build_notebook()
    for _ in range(draw.randint(1, 4)):
        *place, key = draw.choice([path for path in list_places(notebook) if path])
        parent = notebook
        for step in place:
            parent = parent[step]
        if draw.random() < 0.3:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(draw.choice(VALUES))
    return json.dumps(notebook).encode()


def change_bytes(draw):
    """A notebook's bytes, in some encoding, some of them changed, cut or doubled."""
    encoding = draw.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252"])
    content = bytearray(
        json.dumps(build_notebook(), ensure_ascii=False).encode(encoding, "replace")
    )
    for _ in range(draw.randint(0, 20)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    start, end = sorted(draw.randrange(len(content)) for _ in range(2))
    cut = draw.random()
    if cut < 0.3:
        return bytes(content[:end])
    if cut < 0.4:
        return bytes(content[start:])
    if cut < 0.5:
        return bytes(content[:end] + content[start:])
    return bytes(content)


@pytest.mark.parametrize("change", [change_structure, change_bytes])
def test_damaged_notebooks_never_stop_reading(change, tmp_path):
    """Failing means one file that nobody thought of costs a class its grades."""
    draw = random.Random(0)
    outcomes = []
    tries = count_mutations(200)
    for _ in range(tries):
        one = read(put(tmp_path / "x.ipynb", change(draw)))
        outcomes.append(bool(one.assignment))
        assert one.assignment or one.remarks
        json.dumps(one.remarks).encode()
        "\n".join([one.student, *one.cells, *one.remarks]).encode()
        attempts.extract_answers(one)
        grade.list_preloads(one.cells)
    assert 0 < sum(outcomes) < tries  # some can be read


def test_damaged_overrides_are_used_or_refused(tmp_path):
    """Failing means a slip in one cell of a spreadsheet stops grading without a word on where."""
    chance = random.Random(0)
    file = tmp_path / "overrides.csv"
    whole = "student,exercise,points,reason\nZoë Müller,bm25,1.5,oral exam\nben,masks,2,\n".encode()
    for _ in range(count_mutations(150)):
        file.write_bytes(mutate(whole, chance))
        graded = [grade.Graded(name, "", [], []) for name in ("Zoë Müller", "ben")]
        try:
            grade.apply_overrides(graded, file)
        except CourseError as error:
            assert error.remedy, error


def test_owner_of_any_path_is_found():
    """Failing means a name that nobody thought of stops grading."""
    draw = random.Random(0)
    signs = "a1_-+. ()~é\u0301\u00a0\n版LATEattempt"
    for _ in range(500):
        name = "".join(draw.choice(signs) for _ in range(draw.randint(1, 30)))
        owner = owners.find_owner(PurePath("week 1", name + ".ipynb"))
        assert owners.find_base(owner.name)

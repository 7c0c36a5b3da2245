"""Submissions that are broken or hostile: none raises its score, stops the batch or changes
another's.
"""

import builtins
import csv
import json
import os
import shutil
import socket

import nbformat
import numpy as np
import pytest
import torch

from lessons_lib.grading import assignments, feedback, grade, sandbox, submissions

SOURCE = next(path for path in assignments.list_assignments() if path.stem == "05_retrieval")
ASSIGNMENT = assignments.read_assignment(SOURCE)
SOLUTIONS = {e.name: e.solution for e in ASSIGNMENT.exercises}
FULL = sum(e.points for e in ASSIGNMENT.exercises)
PARTIAL = ("search", "hit_at")  # what every submission below has right: 3 + 2 points
isolated = pytest.mark.skipif(
    not shutil.which("bwrap"), reason="bubblewrap is not installed: no sandbox to test"
)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    monkeypatch.setattr(sandbox, "CELL", 2)
    monkeypatch.setattr(sandbox, "CALL", 2)


def hand_in(right=PARTIAL, first="", last="", redefine=None):
    """A student's notebook: some functions right, others as given; cells before and after."""
    notebook = assignments.build_release(SOURCE)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.metadata.nbgrader.solution:
            name = cell.metadata.nbgrader.grade_id
            if name in right:
                cell.source = SOLUTIONS[name]
            cell.source = (redefine or {}).get(name, cell.source)
    for place, source in ((0, first), (len(notebook.cells) + 1, last)):
        if source:
            notebook.cells.insert(place, nbformat.v4.new_code_cell(source))
    return notebook


def grade_notebook(folder, notebook, name="student"):
    """Grades a notebook as one of a folder."""
    file = folder / f"{name}.ipynb"
    file.write_text(
        notebook if isinstance(notebook, str) else json.dumps(notebook), encoding="utf-8"
    )
    read = submissions.read_submission(file, folder, [ASSIGNMENT])
    return grade.grade_submission(read, seed=7, unsafe=False)


ATTACKS = {
    "infinite loop": ("while True: pass", 5),
    "loop that swallows": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        5,
    ),
    "loop without alarm": ("import signal\nsignal.signal(14, signal.SIG_IGN)\nwhile True: pass", 5),
    "sleep": ("import time\ntime.sleep(1e6)", 5),
    "fork bomb": ("import os\nwhile True: os.fork()", 5),
    "memory bomb": ("x = []\nwhile True: x.append(b'x' * 2**27)", 5),
    "output flood": ("while True: print('x' * 10**6)", 5),
    "flood of all descriptors": (
        "import os\nfor n in range(3, 20):\n    try: os.write(n, b'x' * 2**27)\n    except "
        "OSError: pass",
        5,
    ),
    "os._exit": ("import os\nos._exit(0)", 5),
    "kernel kill": ("import os\nos.kill(os.getpid(), 9)", 5),
    "parent kill": ("import os\nos.kill(os.getppid(), 9)\nos.kill(-1, 9)", 5),
    "sys.exit": ("import sys\nsys.exit()", 5),
    "patched builtins": (
        "import builtins\nbuiltins.AssertionError = KeyError\nbuiltins.abs = lambda x: 0",
        5,
    ),
    "patched numpy": ("import numpy\nnumpy.allclose = numpy.array_equal = lambda *a, **k: True", 5),
    "patched equality": (
        "class Same(float):\n    __eq__ = lambda *a: True\n\ndef fuse(*a): return Same()",
        5,
    ),
    "input": ("name = input()", 5),
    "magics": ("%matplotlib inline\n!rm -rf /usr/lib\n%load_ext none", 5),
    "cell magic": ("%%bash\nkill -9 1", 5),
    "syntax error": ("def (", 5),
    "forged answers": (
        "import os\nfor n in range(3, 20):\n    try: os.write(n, b'{\"value\": true}\\n' * 50)\n"
        "    except OSError: pass",
        5,
    ),
    "honest": ("x = 1", 5),
}


@isolated
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_in_a_cell_costs_that_cell_alone(name, tmp_path):
    """Failing means a hostile or broken cell gains points, or loses those of other cells."""
    attack, points = ATTACKS[name]
    graded = grade_notebook(tmp_path, hand_in(first=attack))
    lost = name == "forged answers"  # its own answers come too late: its loss
    assert graded.total() <= points if lost else graded.total() == points, graded


@isolated
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os; os._exit(0)", "ended the process"),
        ("while True: pass", "no answer within"),
        ("import sys; sys.exit()", "SystemExit"),
        ("return object()", "not a number"),
        ("import numpy; return numpy.empty((10**9, 0))", "cannot be read"),
        ("import os; os.write(4, b'[\"error\"]\\n'); return 1", "cannot be read"),
        (
            "import threading, time\n    for n in range(300):\n"
            "        threading.Thread(target=time.sleep, args=[9]).start()\n    time.sleep(9)",
            "threads",
        ),
        ("x = []; x.append(x); return x", "Recursion"),
        ("return 'x' * 2**26", "more than 16 kB"),
        ("import os; os.system('kill -9 -1')", "ended the process"),
    ],
)
def test_attack_in_a_function_costs_that_exercise_alone(body, said, tmp_path):
    """Failing means a function that ends its process takes other exercises' points, or gives none
    away.
    """
    graded = grade_notebook(
        tmp_path, hand_in(redefine={"bm25": f"def bm25(*args, **rest):\n    {body}"})
    )
    assert graded.total() == 5
    assert said in next(mark.message for mark in graded.marks if mark.exercise == "bm25")


@isolated
def test_sandbox_shows_no_files_secrets_or_network(tmp_path, monkeypatch):
    """Failing means students read hidden tests, others' notebooks or passwords, or reach the
    network.
    """
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    (tmp_path / "other.ipynb").write_text("someone else's")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cells = [
            "def read(path):\n    try: return open(path).read()\n    except OSError: return ''",
            "def write(path):\n    open(path, 'w').write('x')",
            "def environment():\n    import os\n    return dict(os.environ)",
            f"def connect():\n    import socket\n    socket.create_connection(('127.0.0.1', "
            f"{port}), 1)",
            "def processes():\n    import os\n    return sum(n.isdigit() for n in "
            "os.listdir('/proc'))",
        ]
        with sandbox.Sandbox(cells) as box:
            for path in (SOURCE, tmp_path / "other.ipynb", "/etc/passwd"):
                assert box.call("read", str(path)) == ""
            assert "hunter2" not in box.call("read", "/proc/1/environ")
            for path in ("/usr/planted", str(tmp_path / "planted"), str(SOURCE)):
                with pytest.raises(sandbox.StudentError):
                    box.call("write", path)
            assert "SECRET_TOKEN" not in box.call("environment")
            with pytest.raises(sandbox.StudentError):
                box.call("connect")
            assert box.call("processes") < 5
    assert not (tmp_path / "planted").exists()


@isolated
def test_students_have_no_rights_and_little_room(monkeypatch):
    """Failing means a student remounts the system, or fills the grader's memory with files."""
    cells = [
        "def rights():\n    return [x for x in open('/proc/self/status') if x.startswith('Cap')]",
        "def mount():\n    import os; return os.system('mount -o remount,rw,bind /usr; touch "
        "/usr/planted')",
        "def userns():\n    import os; return os.system('unshare -Ur true')",
        "def fill(place):\n    for n in range(9): open(f'{place}/{n}', 'wb').write(bytes(2**26))",
    ]
    with sandbox.Sandbox(cells) as box:
        effective = [line for line in box.call("rights") if line.startswith("CapEff")]
        assert int(effective[0].split()[1], 16) == 0
        assert box.call("mount") != 0
        assert box.call("userns") != 0
        for place in ("/dev/shm", "/tmp", "/home/student", "/dev", "/"):
            with pytest.raises(sandbox.StudentError, match="OSError|PermissionError"):
                box.call("fill", place)


@isolated
def test_time_of_a_submission_is_limited(monkeypatch):
    """Failing means one notebook of slow cells, or one that reads no requests, stops the batch for
    days.
    """
    monkeypatch.setattr(sandbox, "SUBMISSION", 3)
    monkeypatch.setattr(sandbox, "START", 2)
    deaf = "import signal, os, time\nsignal.signal(14, signal.SIG_IGN)\nfor n in range(3, 20):\n"
    deaf += (
        "    try: os.write(n, b'{\"value\":1}\\n' * 99)\n    except OSError: pass\nwhile "
        "True: time.sleep(1)"
    )
    for cells in (["import time\ntime.sleep(1)"] * 1000, [deaf, "#" * 2**21]):
        with sandbox.Sandbox(cells) as box, pytest.raises(sandbox.StudentError):
            box.call("search", [1.0])


@isolated
def test_values_go_in_and_come_back_unchanged():
    """Failing means students are graded on other inputs than the tests draw."""
    values = [1, 2.5, "a", None, True, [1, (2, 3)], {"a": {1, 2}, 3: [4]}, np.eye(2, dtype=bool)]
    values += [torch.arange(3.0), np.array(["x", "yz"]), np.float32(2)]
    with sandbox.Sandbox(["def same(x):\n    return x"], preload=("torch",)) as box:
        for value in values:
            back = box.call("same", value)
            if isinstance(value, np.ndarray | torch.Tensor):
                assert type(back) is type(value) and back.dtype == value.dtype
                assert (back == value).all()
            else:
                assert back == value


def strip(notebook):
    """What Colab or VS Code may leave."""
    notebook.metadata = {}
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def drop_checks(notebook):
    notebook.cells = [c for c in notebook.cells if not c.source.startswith("# Check")]
    return notebook


def double_checks(notebook):
    notebook.cells += [c for c in notebook.cells if c.source.startswith("# Check: search")]
    return notebook


def edit_checks(notebook):
    for cell in notebook.cells:
        if cell.source.startswith("# Check: fuse"):
            cell.source = "# Check: fuse\nassert True"
    return notebook


def move_checks(notebook):
    checks = [c for c in notebook.cells if c.source.startswith("# Check")]
    notebook.cells = [c for c in notebook.cells if c not in checks] + checks[::-1]
    return notebook


def edit_points(notebook):
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.metadata.nbgrader.points = 100
    return notebook


def scramble_metadata(notebook):
    notebook.metadata = [1]
    for cell in notebook.cells:
        cell.metadata = {"nbgrader": "none"}
    return notebook


def change_kernel(notebook):
    notebook.metadata["kernelspec"] = {"name": "ir", "language": "R", "display_name": "R"}
    return notebook


def age(notebook):
    notebook.metadata["lessons_lib"]["version"] = "older"
    return notebook


def save_as_version_3(notebook):
    cells = [
        {"cell_type": "code", "input": c.source, "language": "python", "outputs": []}
        for c in notebook.cells
        if c.cell_type == "code"
    ]
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}


BROKEN = {
    strip: "metadata was stripped",
    drop_checks: "check of search is missing",
    double_checks: "check of search is there 2 times",
    edit_checks: "check of fuse was edited",
    move_checks: "checks were moved",
    edit_points: "points of search were edited",
    scramble_metadata: "metadata was stripped",
    change_kernel: "kernel for R",
    age: "another version",
    save_as_version_3: "metadata was stripped",
}


@isolated
@pytest.mark.parametrize("change", BROKEN, ids=lambda change: change.__name__)
def test_broken_notebook_is_graded_and_reported(change, tmp_path):
    """Failing means a student loses points to a tool, or gains them by editing what is not
    theirs.
    """
    graded = grade_notebook(tmp_path, change(hand_in()))
    assert graded.total() == 5
    assert any(BROKEN[change] in remark for remark in graded.remarks), graded.remarks


@isolated
@pytest.mark.parametrize(("right", "points"), [((), 0), (PARTIAL, 5), (tuple(SOLUTIONS), FULL)])
def test_honest_answers_get_their_points(right, points, tmp_path):
    """Failing means an honest student gets other points than they earned."""
    graded = grade_notebook(tmp_path, hand_in(right=right))
    assert (graded.total(), graded.remarks) == (points, [])


@isolated
def test_renamed_function_is_told(tmp_path):
    """Failing means a student does not learn why an answer did not count."""
    renamed = SOLUTIONS["search"].replace("def search", "def my_search")
    graded = grade_notebook(tmp_path, hand_in(redefine={"search": renamed}))
    assert graded.total() == 2
    assert "was it renamed" in graded.marks[0].message


@pytest.mark.parametrize(
    "content", ["{", "[]", "null", '{"cells": 3}', '{"cells": [7]}', "[" * 100_000]
)
def test_what_is_no_notebook_is_reported(content, tmp_path):
    """Failing means one damaged file stops a class's grades."""
    graded = grade_notebook(tmp_path, content)
    assert (graded.total(), len(graded.remarks)) == (0, 1)


def test_links_and_huge_notebooks_are_not_read(tmp_path, monkeypatch):
    """Failing means a link shows the grader's files, or a huge file fills its memory."""
    secret = tmp_path / "secret.ipynb"
    secret.write_text(json.dumps(hand_in()), encoding="utf-8")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.ipynb").symlink_to(secret)
    read = submissions.read_submission(folder / "link.ipynb", folder, [ASSIGNMENT])
    assert (read.cells, read.remarks) == ([], ["a link to another file: not read"])
    monkeypatch.setattr(submissions, "LARGEST", 10)
    assert "larger than" in submissions.read_submission(secret, tmp_path, [ASSIGNMENT]).remarks[0]


@isolated
def test_folder_is_graded_resumed_and_overridden(tmp_path, monkeypatch):
    """Failing means an interrupted run loses or repeats work, or a regrade forgets manual
    points.
    """
    folder, grades = tmp_path / "in", tmp_path / "grades"
    (folder / "group b").mkdir(parents=True)
    (folder / "=ann.ipynb").write_text(json.dumps(hand_in()), encoding="utf-8")
    (folder / "group b" / "ben (1).ipynb").write_text(
        json.dumps(hand_in(right=())), encoding="utf-8"
    )
    (folder / "cut.ipynb").write_text("{", encoding="utf-8")
    table = grade.grade_folder(folder, grades).set_index("student")
    assert table.total.to_dict() == {"=ann": 5, "cut": 0, "group b/ben (1)": 0}
    assert (grades / "feedback" / "group b" / "ben (1).html").exists()
    with (grades / "scores.csv").open(encoding="utf-8") as lines:
        assert next(csv.DictReader(lines))["student"] == "'=ann"
    monkeypatch.setattr(grade, "grade_submission", lambda *_: pytest.fail("graded again"))
    (grades / "overrides.csv").write_text(
        "student,exercise,points,reason\n=ann,bm25,1.5,oral exam\n"
    )
    again = grade.grade_folder(folder, grades).set_index("student")
    assert again.total["=ann"] == 6.5
    assert "oral exam" in (grades / "feedback" / "=ann.html").read_text(encoding="utf-8")


@isolated
def test_hostile_submissions_leave_others_alone(tmp_path):
    """Failing means one student's attack costs another's points."""
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["fork bomb", "memory bomb", "parent kill", "infinite loop", "flood of all descriptors"]
    for name in names:
        (folder / f"{name}.ipynb").write_text(
            json.dumps(hand_in(first=ATTACKS[name][0])), encoding="utf-8"
        )
        honest = hand_in(right=tuple(SOLUTIONS))
        (folder / f"honest beside {name}.ipynb").write_text(json.dumps(honest), encoding="utf-8")
    totals = grade.grade_folder(folder, tmp_path / "grades").set_index("student").total.to_dict()
    assert totals == dict.fromkeys(names, 5) | {f"honest beside {name}": FULL for name in names}


def test_odd_files_do_not_stop_the_batch(tmp_path):
    """Failing means a folder, a pipe or a name in another encoding costs everybody's grades."""
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "UPPER.IPYNB").write_text("{")
    (tmp_path / "lms.ipynb.txt").write_text("{")
    (tmp_path / os.fsdecode(b"J\xfcrgen.ipynb")).write_text("{")
    (tmp_path / os.fsdecode(b"\xfc" * 200 + b".ipynb")).write_text("{")
    paths = submissions.list_submissions(tmp_path)
    read = [submissions.read_submission(path, tmp_path, [ASSIGNMENT]) for path in paths]
    assert len(read) == 6 and all(one.remarks for one in read)
    graded = [grade.grade_submission(one, 0, True) for one in read]
    feedback.write_pages(graded, tmp_path)
    assert set(grade.write_scores(graded, tmp_path / "scores.csv").total) == {0}


def test_failures_of_the_sandbox_are_no_marks():
    """Failing means a student gets 0, for good, because the grader's machine was out of memory."""

    def fail(*_):
        raise sandbox.SandboxError("does not start")

    with pytest.raises(sandbox.SandboxError):
        grade.run_check("search(1)", {"search": fail})


def test_overrides_take_any_spelling_of_a_spreadsheet(tmp_path):
    """Failing means an instructor's points are refused for an apostrophe, an empty row or an
    encoding.
    """
    names = ["=ann", "'t Hooft", "Müller"]
    graded = [grade.Graded(name, "", [], ["not read"]) for name in names]
    rows = [
        "student,exercise,points,reason",
        "'=ann,a,1,x",
        "'=ann,b,2,x",
        ",,,",
        "'t Hooft,a,3,x",
        "Müller,a,4,x",
    ]
    for encoding in ("utf-8", "cp1252"):
        (tmp_path / "overrides.csv").write_bytes("\n".join(rows).encode(encoding))
        grade.apply_overrides(graded, tmp_path / "overrides.csv")
        assert [one.total() for one in graded] == [3, 3, 4]


def test_override_of_nobody_is_refused_with_its_row(tmp_path):
    """Failing means an instructor's points vanish without a word."""
    file = tmp_path / "overrides.csv"
    file.write_text("student,exercise,points,reason\nnobody,bm25,1,x\n")
    with pytest.raises(grade.OverrideError, match="row 2"):
        grade.apply_overrides([], file)


def test_one_failure_of_the_grader_does_not_stop_the_batch(tmp_path, monkeypatch):
    """Failing means 99 students wait for the one whose notebook found a bug."""
    (tmp_path / "marks").mkdir()
    monkeypatch.setattr(grade, "grade_submission", lambda *_: 1 / 0)
    graded = grade.grade_once(submissions.Submission("x"), tmp_path, 0, False)
    assert "ZeroDivisionError" in graded.remarks[0]
    assert not list((tmp_path / "marks").iterdir())


def test_mended_test_grades_anew(tmp_path, monkeypatch):
    """Failing means a faulty test's scores stay after it was mended."""
    (tmp_path / "marks").mkdir()
    graded = []

    def count(submission, *_):
        graded.append(submission.assignment.version)
        return grade.Graded("x", "05_retrieval", [], [])

    monkeypatch.setattr(grade, "grade_submission", count)
    for version in ("one", "one", "two"):
        mended = assignments.Assignment("05_retrieval", "", [], version)
        grade.grade_once(submissions.Submission("x", [], mended), tmp_path, 0, False)
    assert graded == ["one", "two"]


def test_feedback_shows_no_test_and_no_markup(tmp_path):
    """Failing means feedback gives hidden tests away, or runs what a student put into a message."""
    marks = [
        grade.Mark(e.name, 0, e.points, grade.run_check(e.check, {e.name: lambda *a, **k: None}))
        for e in ASSIGNMENT.exercises
    ]
    marks[0] = grade.Mark("search", 0, 3, "ValueError: <script>alert(1)</script>")
    feedback.write_pages([grade.Graded("ann", "05_retrieval", marks, [])], tmp_path)
    page = (tmp_path / "feedback" / "ann.html").read_text(encoding="utf-8")
    assert assignments.find_leaks(SOURCE.read_text(encoding="utf-8"), page) == []
    assert "<script>" not in page
    assert "hardest exercise" in (tmp_path / "summary.html").read_text(encoding="utf-8")


def test_grading_refuses_without_a_sandbox(tmp_path, monkeypatch):
    """Failing means students' code runs with an instructor's rights, unasked."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sandbox.SandboxError, match="UNSAFE=1"):
        grade.grade_folder(tmp_path, tmp_path / "grades")


def test_students_process_never_touches_the_grader(tmp_path):
    """Failing means a submission that patches builtins patches the tests."""
    before = builtins.abs
    read = submissions.Submission("x", ["import builtins\nbuiltins.abs = lambda x: 0"], ASSIGNMENT)
    graded = grade.grade_submission(read, seed=0, unsafe=True)
    assert builtins.abs is before
    assert graded.total() == 0

"""Machines that are not like the author's: homes, terminals, folders, processors, shells."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lessons_lib import training
from lessons_lib.course import console, crashes, doctor
from lessons_lib.errors import CourseError, SettingError
from lessons_lib.paths import REPOSITORY

KEY = "0123456789abcdef" * 3
PROCESSOR = "model name\t: Some CPU\nflags\t\t: fpu sse4_2 avx f16c\n"


def run_python(code, **variables):
    """What a new process prints that runs `code` with only these variables, beside the path and the
    cache.
    """
    given = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        cwd=REPOSITORY,
        env=given | {"PYTHONDONTWRITEBYTECODE": "1"} | variables,
    )


# ---- the home folder


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A home folder and a refuge of the test's own, and no variable that moves anything."""
    for name in (*console.PLACES, *console.READ):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(console, "REFUGE", tmp_path / "refuge")
    return home


def forbid(monkeypatch, *forbidden):
    """Lets nothing be written below these folders, as rights would (which do not bind root)."""
    truly = console.tempfile.TemporaryFile

    def refuse(dir):
        if any(Path(dir).is_relative_to(folder) for folder in forbidden):
            raise PermissionError(13, "Permission denied")
        return truly(dir=dir)

    monkeypatch.setattr(console.tempfile, "TemporaryFile", refuse)


def test_sound_home_is_left_alone(machine):
    """Failing means everybody's caches move, and are fetched again."""
    before = dict(os.environ)
    assert console.prepare_home() == []
    assert dict(os.environ) == before
    assert list(machine.iterdir()) == []
    assert not console.REFUGE.exists()


@pytest.mark.parametrize("home", ["~", "relative", "/no/such/home"])
def test_home_that_is_no_folder_is_replaced(home, machine, monkeypatch):
    """Failing means a folder called "~" appears in the repository, or caches land in the current
    one.
    """
    monkeypatch.setenv("HOME", home)
    [note] = console.prepare_home()
    assert os.environ["HOME"] == str(console.REFUGE)
    assert Path.home() == console.REFUGE
    assert all(
        word in note
        for word in ("HOME", "LESSONS_CACHE", "HF_HOME", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")
    )


def test_user_without_home_and_name_gets_both(machine, monkeypatch):
    """Failing means a container's nameless user cannot start a lesson."""
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def fail(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", fail)
    console.prepare_home()
    assert os.environ["HOME"] == str(console.REFUGE)
    assert console.getpass.getuser() == os.environ["USER"]


def test_home_that_cannot_be_written_is_still_read(machine, monkeypatch):
    """Failing means a cluster's read-only home costs its users models, data and token that lie
    there.
    """
    (machine / ".cache" / "lessons_lib").mkdir(parents=True)
    (machine / ".cache" / "huggingface").mkdir()
    (machine / ".cache" / "huggingface" / "token").write_text("hf_x")
    forbid(monkeypatch, machine)
    console.prepare_home()
    assert os.environ["HOME"] == str(machine)
    assert os.environ["LESSONS_CACHE"] == str(machine / ".cache" / "lessons_lib")
    assert os.environ["HF_TOKEN_PATH"] == str(machine / ".cache" / "huggingface" / "token")
    moved = [
        os.environ[name]
        for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR")
    ]
    assert all(Path(folder).is_relative_to(console.REFUGE) for folder in moved)


def test_one_folder_of_anothers_moves_alone(machine, monkeypatch):
    """Failing means a folder that sudo made stops the course, or moves everything."""
    (machine / ".cache" / "huggingface").mkdir(parents=True)
    forbid(monkeypatch, machine / ".cache" / "huggingface")
    console.prepare_home()
    assert set(console.list_moved()) == {"HF_HOME"}


def test_readers_own_variable_is_tried_too(machine, tmp_path, monkeypatch):
    """Failing means XDG_CACHE_HOME on a read-only disk stops the course."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "disk"))
    forbid(monkeypatch, tmp_path / "disk")
    console.prepare_home()
    assert set(console.list_moved()) == {"XDG_CACHE_HOME"}


def test_file_in_the_place_of_a_folder_cannot_be_written(tmp_path):
    """Failing means ~/.cache that is a file ends in a traceback."""
    (tmp_path / "file").touch()
    assert not console.can_write(tmp_path / "file" / "below")
    assert console.can_write(tmp_path / "not" / "yet" / "there")
    assert not (tmp_path / "not").exists()


def test_nowhere_to_write_is_one_clear_error(machine, monkeypatch):
    """Failing means a read-only disk ends in a traceback, without the variables that would help."""
    monkeypatch.setenv("HOME", "/no/such/home")
    console.REFUGE.write_text("a file")
    with pytest.raises(CourseError, match="LESSONS_CACHE, HF_HOME, JUPYTER_RUNTIME_DIR"):
        console.prepare_home()


@pytest.mark.slow
def test_tools_obey_the_variables(tmp_path):
    """Failing means Jupyter, IPython, Matplotlib or the Hub's library still write to the old
    home.
    """
    code = """
import IPython.paths, huggingface_hub.constants, jupyter_core.paths, matplotlib, platformdirs
print(IPython.paths.get_ipython_dir())
print(huggingface_hub.constants.HF_HOME)
print(jupyter_core.paths.jupyter_runtime_dir())
print(matplotlib.get_configdir())
print(matplotlib.get_cachedir())
print(platformdirs.user_cache_path("x"))
"""
    variables = {
        name: str(tmp_path / name)
        for name, place in console.PLACES.items()
        if not place.startswith("$")
    }
    places = run_python(code, HOME="/", **variables).stdout.decode().split()
    assert len(places) == 6
    assert all(Path(place).is_relative_to(tmp_path) for place in places)


# ---- the terminal


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8"])
def test_every_text_can_be_printed(encoding):
    """Failing means a terminal without an arrow ends a run after all lessons ran."""
    code = (
        "from lessons_lib.course import console; console.prepare_terminal()\n"
        "import sys; print('0.5 → 0.8 ━ × “c\\u00f6urse” 狗 \\ud83d'); print('→', file=sys.stderr)"
    )
    run = run_python(code, PYTHONIOENCODING=encoding)
    assert run.returncode == 0, run.stderr
    assert b"0.5 " in run.stdout
    if encoding == "ascii":
        assert run.stdout.decode().strip() == r'0.5 -> 0.8 = x "c\xf6urse" \u72d7 \ud83d'
    if encoding == "utf-8":
        assert "→ 0.8 ━ × “cöurse” 狗" in run.stdout.decode()


def test_children_write_what_their_parents_read():
    """Failing means a lesson's own subprocess dies of an arrow in a Latin-1 terminal."""
    code = (
        "from lessons_lib.course import console; console.prepare_terminal()\n"
        "import subprocess, sys; child = [sys.executable, '-c', 'print(chr(0x2192))']\n"
        "print(subprocess.run(child, capture_output=True, encoding='utf-8').stdout.strip())"
    )
    assert run_python(code, PYTHONIOENCODING="latin-1", LC_ALL="C").stdout.decode().strip() == "->"


def test_streams_that_are_no_terminal_are_left_alone(monkeypatch):
    """Failing means a notebook's or a test's own standard output stops the course."""
    monkeypatch.setenv("PYTHONUTF8", "")
    monkeypatch.setenv("PYTHONIOENCODING", "")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    console.prepare_terminal()


# ---- the shell's variables


def test_another_pythons_packages_are_left_out(tmp_path, monkeypatch):
    """Failing means a cluster's PYTHONPATH mixes two Pythons' packages."""
    foreign = tmp_path / "lib" / "python3.9" / "site-packages"
    monkeypatch.setenv("PYTHONPATH", f"{foreign}{os.pathsep}{tmp_path}")
    monkeypatch.setattr(sys, "path", [str(foreign), str(tmp_path), *sys.path])
    [note] = console.drop_foreign_packages()
    assert str(foreign) in note
    assert os.environ["PYTHONPATH"] == str(tmp_path)
    assert str(foreign) not in sys.path
    assert str(tmp_path) in sys.path
    assert console.drop_foreign_packages() == []


@pytest.fixture
def odd_clone(tmp_path):
    """A clone in a folder whose name is hard on shells, set up as far as make looks."""
    folder = tmp_path / "my cöurse (copy) it's $HOME"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("requirements.txt", "pyproject.toml", ".venv/.ready"):
        (folder / name).touch()
    shutil.copy(REPOSITORY / "Makefile", folder)
    python = folder / ".venv" / "bin" / "python"
    # prints each word that it was called with on a line of its own
    python.write_text('#!/bin/sh\necho "PYTHONPATH=$PYTHONPATH"\nfor word; do echo "$word"; done\n')
    python.chmod(0o755)
    return folder


def make(folder, *words, **variables):
    """The lines that make prints for these words."""
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "PYTHONPATH")
    }
    done = subprocess.run(
        ["make", *words],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


def test_make_works_in_any_folder(odd_clone):
    """Failing means a clone in "my course (copy)" cannot be tested."""
    assert f"PYTHONPATH={odd_clone}/tests/no_network" in make(odd_clone, "-s", "test")


@pytest.mark.parametrize(
    "name", ["my file (1).csv", "it's.csv", 'a "b".csv', "a$b.csv", "a,b;c&d.csv"]
)
def test_make_hands_names_on_as_they_are(name, odd_clone):
    """Failing means a file's name decides whether a lesson can read it."""
    lines = make(odd_clone, "course", "LESSON=04", f"DATA={name}", "LABELS=1=negative,2=positive")
    assert lines[lines.index("--data") + 1] == name
    assert lines[lines.index("--labels") + 1] == "1=negative,2=positive"
    assert name in make(odd_clone, "grade", f"SUBMISSIONS={name}")


def test_make_hands_the_first_lesson_on(odd_clone):
    """Failing means a run that stopped cannot go on where it was."""
    lines = make(odd_clone, "course", "FROM=04")
    assert lines[lines.index("--from") + 1] == "04"


def test_make_says_that_data_before_it_are_not_read(odd_clone):
    """Failing means `DATA=mine.csv make course` runs on other data, without a word."""
    lines = make(odd_clone, "course", "LESSON=04", DATA="mine.csv")
    assert "--data" not in lines
    assert any("DATA is read only behind make" in line for line in lines)


def test_make_installs_into_its_own_environment(odd_clone):
    """Failing means another Python's variables decide where packages go."""
    (odd_clone / ".venv" / ".ready").unlink()
    lines = make(
        odd_clone,
        "-n",
        "setup",
        PYTHONHOME="/elsewhere",
        PIP_TARGET="/elsewhere",
        PYTHONPATH="/elsewhere",
    )
    installs = [line for line in lines if " install " in line]
    assert len(installs) == 2
    for word in ("-u PYTHONPATH", "-u PIP_TARGET", "-u PIP_PREFIX", "PIP_USER=0"):
        assert all(word in line for line in installs)


# ---- processes that end


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGILL, "illegal instruction: this processor .*lacks"),
        (128 + signal.SIGILL, "illegal instruction: this processor"),
        (0xC000001D, "illegal instruction: this processor"),
        (-signal.SIGKILL, "out of memory .*GB free"),
        (137, "out of memory"),
        (None, "out of memory"),
        (-signal.SIGSEGV, "SIGSEGV: a package's native code crashed"),
        (-signal.SIGABRT, "SIGABRT: a package's native code gave up"),
        (-signal.SIGBUS, "SIGBUS: .*shm"),
        (-signal.SIGTERM, "SIGTERM: something outside"),
        (-signal.SIGUSR1, "SIGUSR1"),
        (3, "ended itself, with exit code 3"),
        (0, "ended itself, with exit code 0"),
    ],
)
def test_death_is_told_by_its_signal(code, words):
    """Failing means whoever has an old processor is told to close programs."""
    what, remedy = crashes.explain_death(code)
    assert re.search(words, what)
    assert remedy


def test_missing_instructions_are_named(monkeypatch):
    """Failing means "illegal instruction" stays a riddle, or ARM processors are said to lack
    AVX2.
    """
    assert crashes.list_missing_instructions(PROCESSOR) == ["FMA", "AVX2"]
    assert crashes.list_missing_instructions("Features\t: fp asimd\n") == []
    monkeypatch.setattr(crashes, "_read", lambda path: PROCESSOR)
    what, remedy = crashes.explain_death(-signal.SIGILL)
    assert "this processor (Some CPU) lacks FMA, AVX2" in what
    assert "host" in remedy


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """Packages of some names that end their process by a signal, or fail, when imported."""

    def make_package(name, code):
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    doctor.find_import_problem.cache_clear()
    yield make_package
    doctor.find_import_problem.cache_clear()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 4)", "SIGILL.*this processor"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("raise ImportError('no GLIBC_2.38')", "ImportError: no GLIBC_2.38"),
    ],
)
def test_doctor_survives_a_package_that_ends_its_process(code, words, deadly, monkeypatch, capsys):
    """Failing means the doctor dies at the package that it should name."""
    deadly("torch", code)
    monkeypatch.setattr(doctor, "NATIVE", ("torch", "json"))
    monkeypatch.setattr(
        doctor, "LOOKS", (doctor.look_at_native_code, doctor.look_at_processor, doctor.look_at_gpu)
    )
    assert doctor.run_doctor("laptop") == 1
    printed = capsys.readouterr().out
    assert re.search(f"failure  import     torch: .*{words}", printed)
    assert "not looked at, as torch cannot be imported" in printed


def test_doctor_says_what_a_processor_lacks(monkeypatch):
    """Failing means "all is well" on a processor on which packages end with an illegal
    instruction.
    """
    monkeypatch.setattr(doctor, "list_missing_instructions", lambda: ["AVX2"])
    first = next(doctor.look_at_processor())
    assert "without AVX2" in first.found
    assert first.status == "warning"


def test_doctor_sees_a_home_that_cannot_be_written(machine, monkeypatch):
    """Failing means nobody is told where caches went, or how to choose."""
    assert [check.status for check in doctor.look_at_home() if check.name == "home"] == ["ok"]
    monkeypatch.setenv("HOME", "~")
    [check] = [check for check in doctor.look_at_home() if check.name == "home"]
    assert check.status == "warning"
    assert "JUPYTER_RUNTIME_DIR" in check.remedy
    assert not console.REFUGE.exists()


# ---- trackers


@pytest.fixture
def tracking(monkeypatch, tmp_path):
    """A folder, and an environment in which W&B has no settings."""
    import wandb

    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_INIT_TIMEOUT"):
        monkeypatch.setenv(name, "")  # so that monkeypatch puts back what the code sets
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    yield tmp_path / "run"
    wandb.finish()
    wandb.teardown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WANDB_API_KEY": KEY, "WANDB_INIT_TIMEOUT": "2"}, 20),
        ({"WANDB_API_KEY": "short"}, 10),
        ({"WANDB_MODE": "online", "NETRC": os.devnull}, 10),
        ({"WANDB_PROJECT": "a/b"}, 10),
    ],
    ids=["no network", "invalid key", "no key", "invalid project"],
)
def test_tracking_goes_on_offline(variables, seconds, tracking, monkeypatch, capsys):
    """Failing means a key without a network costs 90 seconds and the lesson."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    started = time.monotonic()
    training.prepare_tracking("wandb", tracking)
    assert time.monotonic() - started < seconds
    assert list(tracking.glob("wandb/wandb/offline-run-*"))
    [line] = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    assert "kept offline in" in line


@pytest.mark.slow
def test_chosen_mode_is_respected(tracking, monkeypatch, capsys):
    """Failing means WANDB_MODE=offline with a key still looks for a network."""
    monkeypatch.setenv("WANDB_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("WANDB_MODE", "offline")
    training.prepare_tracking("wandb", tracking)
    assert list(tracking.glob("wandb/wandb/offline-run-*"))
    assert "cannot go online" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "offf"), ("WANDB_BASE_URL", "nowhere")])
def test_setting_that_wandb_cannot_read_is_a_clear_error(name, value, tracking, monkeypatch):
    """Failing means a typo in a variable ends in another library's traceback."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match="W&B: .*correct or unset the variables WANDB_"):
        training.prepare_tracking("wandb", tracking)


def test_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    """Failing means report_to="tensorboard" without TensorBoard ends in a traceback after
    minutes.
    """
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingError, match="pip install tensorboard"):
        training.prepare_tracking("tensorboard", tmp_path)

"""The front doors, as far as they can be checked in seconds; `make doors` does the rest."""

import ast
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lessons_lib import __main__ as command_line
from lessons_lib.course import colab, doctor, repo_address
from lessons_lib.course.pages import slugify
from lessons_lib.lessons import SETUP, list_lessons, read_source
from lessons_lib.paths import NOTEBOOKS, REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_ranges(lines):
    """Requirements by their normalised names."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


RANGES = read_ranges(PROJECT["dependencies"])
FOR_GRADING = read_ranges(PROJECT["optional-dependencies"]["grading"])
PINNED = [
    Requirement(line)
    for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if "==" in line
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
WRITTEN = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "data/results/README.md",
    "notebooks/glossary.md",
    "notebooks/assignments/README.md",
)
each_lesson = pytest.mark.parametrize("lesson", list_lessons(), ids=lambda path: path.stem)


def setup_cell(lesson):
    [cell] = [c for c in read_source(lesson).cells if SETUP in c.metadata.get("tags", [])]
    return cell.source


@pytest.fixture
def session(monkeypatch, tmp_path):
    """A stand-in for a Colab session in an empty folder; git and pip are only recorded."""
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.delenv("LESSONS_PROFILE", raising=False)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(colab, "REPOSITORY", tmp_path)
    commands = []

    def record(command, **options):
        commands.append([str(part) for part in command])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", record)
    return commands


@each_lesson
def test_setup_cell_does_nothing_elsewhere(lesson, monkeypatch, tmp_path):
    """Failing means running a lesson at home clones or installs something."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran a command"))
    before = sorted(sys.path)
    exec(compile(setup_cell(lesson), "cell", "exec"), {})
    assert sorted(sys.path) == before


@pytest.mark.parametrize("gpu", [True, False])
def test_setup_cell_installs_and_chooses_the_profile(gpu, session, monkeypatch, tmp_path):
    """Failing means Colab runs the laptop's models on a GPU, or Llama-2 on a CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "T4")
    monkeypatch.setattr(colab.os, "chdir", lambda folder: None)
    monkeypatch.setattr(colab.os, "environ", {})
    exec(compile(setup_cell(list_lessons()[0]), "cell", "exec"), {})
    clone, *_, install = session
    assert clone[:2] == ["git", "clone"]
    assert clone[-2] == f"https://github.com/{repo_address.read_address()}"
    assert install[2:4] == ["pip", "install"]
    assert colab.os.environ.pop("LESSONS_PROFILE") == ("gpu" if gpu else "laptop")


@pytest.mark.parametrize("host", ["colab", "kaggle"])
def test_setup_cell_works_in_both_hosts(host, session, monkeypatch):
    """Failing means the first cell helps in one of them alone: then there is no module
    'lessons_lib'.
    """
    if host == "kaggle":
        monkeypatch.delitem(sys.modules, "google.colab")
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setattr(colab, "set_up", lambda: session.append([host]))
    exec(compile(setup_cell(list_lessons()[0]), "cell", "exec"), {})
    assert [command[0] for command in session] == ["git", host]
    assert colab.find_host() == host


def test_setup_cell_says_when_the_network_is_off(session, monkeypatch):
    """Failing means Kaggle, where Internet is off at first, shows a traceback."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 128))
    with pytest.raises(SystemExit, match="Internet on in Settings"):
        exec(compile(setup_cell(list_lessons()[0]), "cell", "exec"), {})


def test_setup_cell_says_when_the_course_is_missing(monkeypatch):
    """Failing means another Jupyter ends in "No module named 'lessons_lib'", without a remedy."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"lacks the course: git clone https://.*make lab"):
        exec(compile(setup_cell(list_lessons()[0]), "cell", "exec"), {})


def test_setup_cells_are_alike():
    """Failing means a lesson sets itself up in a way of its own."""
    assert len({setup_cell(lesson) for lesson in list_lessons()}) == 1


def test_colab_keeps_its_torch_and_numpy(session):
    """Failing means pip replaces the torch that belongs to Colab's CUDA."""
    colab.install({"torch": "2.8.0+cu126", "numpy": "2.0.2", "pandas": "2.2.2"})
    constraints = Path(session[0][session[0].index("-c") + 1])
    assert constraints.read_text() == "torch==2.8.0+cu126\nnumpy==2.0.2\n"


@pytest.mark.parametrize(("version", "removed"), [("0.10.0", True), ("0.16.0+cu126", False)])
def test_old_torchao_makes_way(version, removed, session, monkeypatch):
    """Failing means Colab's old torchao stops every lesson where LoRA is added."""
    monkeypatch.setattr(colab, "read_versions", lambda: {"torchao": version})
    monkeypatch.setattr(colab.os, "chdir", lambda folder: None)
    monkeypatch.setattr(colab.os, "environ", {})
    colab.set_up()
    assert (
        any("uninstall" in command and command[-1] == "torchao" for command in session) == removed
    )


def test_failed_installation_says_what_to_do(monkeypatch, tmp_path):
    """Failing means a lesson in Colab goes on without its packages."""
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: ResolutionImpossible")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(colab, "REPOSITORY", tmp_path)
    with pytest.raises(
        colab.ColabError, match=r"(?s)numpy==.*ResolutionImpossible.*Remedy: Runtime"
    ):
        colab.install({"numpy": "2.0.2"})


def test_restart_is_asked_for_when_a_loaded_package_was_replaced(monkeypatch):
    """Failing means Colab runs half of one version and half of another."""
    now = colab.read_versions()
    assert colab.find_stale_modules(now, now) == []
    before = {**now, "pluggy": "0.1"}
    assert colab.find_stale_modules(before, now) == [f"pluggy 0.1, not {now['pluggy']}"]
    monkeypatch.setattr(sys.modules["numpy"], "__version__", "1.26.4")
    assert colab.find_stale_modules(now, now) == [f"numpy 1.26.4, not {now['numpy']}"]
    monkeypatch.setattr(colab, "install", lambda before: None)
    with pytest.raises(colab.ColabError, match="Restart session"):
        colab.set_up()


def test_first_of_two_copies_counts(monkeypatch, tmp_path):
    """Failing means a copy that some package brings along counts as installed: restarts for
    ever.
    """
    (tmp_path / "numpy-0.1.dist-info").mkdir()
    (tmp_path / "numpy-0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.1\n")
    before = colab.read_versions()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert colab.read_versions() == before
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert colab.read_versions()["numpy"] == "0.1"


def test_colab_starts_with_the_standard_library_alone():
    """Failing means the first cell imports what it is there to install."""
    run = subprocess.run(
        [sys.executable, "-S", "-c", "import lessons_lib.ops.colab"], cwd=REPOSITORY
    )
    assert run.returncode == 0


INSTALLED_BY_A_STUDY = {"hqq"}  # see `lessons_lib.studies.quantization.load_hqq`


def test_ranges_cover_every_import():
    """Failing means Colab lacks a package that a lesson or the library imports."""
    owners = importlib.metadata.packages_distributions()
    files = [*list_lessons(), *(REPOSITORY / "lessons_lib").rglob("*.py")]
    missing = set()
    for path in files:
        ranges = RANGES | FOR_GRADING if path.parent.name == "grading" else RANGES
        own = {"lessons_lib"}
        own |= INSTALLED_BY_A_STUDY if path.parent.name == "studies" else set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in {name.split(".")[0] for name in names} - own - sys.stdlib_module_names:
                needed = {canonicalize_name(owner) for owner in owners[name]}
                missing |= set() if needed & ranges.keys() else {f"{path.name}: {name}"}
    assert missing == set()


def test_tested_set_lies_in_the_ranges():
    """Failing means `make course` and Colab run versions that exclude each other."""
    for pin in PINNED:
        wanted = RANGES.get(canonicalize_name(pin.name))
        assert wanted is None or next(iter(pin.specifier)).version in wanted.specifier, pin


@pytest.mark.parametrize("name", WRITTEN)
def test_links_into_the_repository_arrive(name):
    """Failing means a reader clicks and gets nowhere."""
    page = REPOSITORY / name
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if target.startswith("http"):
            continue
        there = page.parent / target if target else page
        assert there.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in map(slugify, headings), link


def test_badges_lead_to_files():
    """Failing means a badge opens an error page."""
    address = repo_address.read_address()
    found = []
    for path in [REPOSITORY / "README.md", *list_lessons()]:
        text = path.read_text(encoding="utf-8")
        found += re.findall(
            rf"colab\.research\.google\.com/github/{address}/blob/main/([^)\s]+)", text
        )
    assert {f"notebooks/{path.stem}.ipynb" for path in list_lessons()} <= set(found)
    assert all((REPOSITORY / name).is_file() for name in found)


def test_one_command_moves_every_address(tmp_path):
    """Failing means a fork's badges lead to somebody else's repository."""
    for name in ("pyproject.toml", "README.md", "CITATION.cff", "docs/conf.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns("assignments"))
    old = repo_address.read_address(tmp_path)
    changed = repo_address.write_badges("someone/else", tmp_path)
    assert len(changed) == 3 + 2 * len(list_lessons())
    assert repo_address.read_address(tmp_path) == "someone/else"
    texts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.*") if path.is_file()]
    assert not any(old in text for text in texts)
    repo_address.write_badges(old, tmp_path)
    for path in changed:
        assert path.read_bytes() == (REPOSITORY / path.relative_to(tmp_path)).read_bytes()


def test_no_file_with_the_address_is_forgotten():
    """Failing means `make badges` leaves the old address in some file."""
    served = {path for pattern in repo_address.FILES for path in REPOSITORY.glob(pattern)}
    texts = [
        path
        for name in ("", "docs", ".github/workflows")
        for path in (REPOSITORY / name).glob("*.*")
    ]
    texts += [
        path
        for name in ("lessons_lib", "notebooks", "data", "tests")
        for path in (REPOSITORY / name).rglob("*.*")
    ]
    known = (".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".txt", ".ipynb", ".json")
    texts = {path for path in texts if path.suffix in known and path.is_file()}
    naming = {path for path in texts if repo_address.read_address().encode() in path.read_bytes()}
    assert naming <= served
    assert len(naming) >= 3 + 2 * len(list_lessons())


@pytest.mark.parametrize(
    "address", ["https://github.com/someone/else", "someone", "someone/else.git"]
)
def test_bad_address_is_refused(address):
    """Failing means a typo lands in every badge."""
    with pytest.raises(ValueError, match="make badges REPO=owner/name"):
        repo_address.write_badges(address)


@pytest.mark.slow
def test_doctor_reports_on_everything(capsys):
    """Failing means somebody asks for help and the doctor leaves out what matters, or gives no
    remedy.
    """
    code = doctor.run_doctor("laptop", as_json=True)
    said = json.loads(capsys.readouterr().out)
    names = {check["name"] for check in said["checks"]}
    wanted = (
        "python home packages import processor cores memory disk 4-bit gpu assets hub kernel "
        "browser"
    )
    assert set(wanted.split()) <= names
    assert code == (0 if said["can_run"]["laptop"] else 1)
    assert all(check["remedy"] for check in said["checks"] if check["status"] != "ok")


@pytest.mark.parametrize(
    ("look", "break_it"),
    [
        ("look_at_python", lambda m: m.setattr(doctor.sys, "version_info", (3, 10, 1))),
        (
            "look_at_packages",
            lambda m: m.setattr(doctor, "read_versions", lambda: {"torch": "1.0"}),
        ),
        (
            "look_at_memory",
            lambda m: m.setattr(
                "psutil.virtual_memory", lambda: types.SimpleNamespace(total=1e9, available=1e8)
            ),
        ),
        (
            "look_at_memory",
            lambda m: m.setattr(
                doctor.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1e8)
            ),
        ),
        (
            "look_at_gpu",
            lambda m: m.setattr(
                "bitsandbytes.functional.dequantize_4bit", lambda *_: torch.ones(4096)
            ),
        ),
        (
            "look_at_jupyter",
            lambda m: m.setattr(
                "jupyter_client.manager.KernelManager.format_kernel_cmd",
                # the Python behind the environment's
                lambda _: [str(Path(sys.executable).resolve())],
            ),
        ),
    ],
)
def test_doctor_finds_what_is_broken(look, break_it, monkeypatch, capsys):
    """Failing means a check that says "ok" whatever it finds."""
    assert not any("laptop" in check.blocks for check in getattr(doctor, look)())
    break_it(monkeypatch)
    found = [check for check in getattr(doctor, look)() if "laptop" in check.blocks]
    assert found
    assert all(check.remedy and check.status == "failure" for check in found)
    monkeypatch.setattr(doctor, "LOOKS", (getattr(doctor, look),))
    assert doctor.run_doctor("laptop") == 1


def test_doctor_survives_a_broken_installation(monkeypatch, capsys):
    """Failing means the doctor dies of the illness it should name."""

    def look_at_trouble():
        raise ImportError("libtorch is missing")
        yield

    monkeypatch.setattr(doctor, "LOOKS", (look_at_trouble, doctor.look_at_python))
    assert doctor.run_doctor("laptop") == 1
    said = capsys.readouterr().out
    assert "failure  trouble    ImportError: libtorch is missing" in said
    assert "ok       python" in said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("granted", "granted"),
        ("refused", "no access"),
        ("none", "no token"),
        ("expired", "expired"),
    ],
)
def test_doctor_tells_a_token_from_access(answer, said, monkeypatch):
    """Failing means a reader waits for Llama-2 that they were never given."""
    from huggingface_hub.errors import GatedRepoError

    def check(name):
        if answer == "expired":
            raise Exception("401")
        if answer != "granted":
            raise GatedRepoError("403", response=types.SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        doctor, "urlopen", lambda *_, **__: types.SimpleNamespace(close=lambda: None)
    )
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None if answer == "none" else "hf_x")
    monkeypatch.setattr("huggingface_hub.auth_check", check)
    [found] = doctor.look_at_hub()
    assert said in found.found
    assert not found.blocks
    assert bool(found.remedy) == (answer != "granted")


def test_commands_import_only_what_they_need():
    """Failing means `doctor` needs what it should diagnose, and `--help` takes seconds."""
    code = (
        "import sys, lessons_lib.__main__ as m; m._parse(['doctor']); print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert run.stdout.strip() == "False"


def test_foreign_errors_keep_their_traceback(monkeypatch):
    """Failing means a bug is shown as if it were the reader's mistake."""

    def fail(profile, as_json):
        raise RuntimeError("not one of ours")

    monkeypatch.setattr(doctor, "run_doctor", fail)
    with pytest.raises(RuntimeError, match="not one of ours"):
        command_line.main(["doctor"])

"""Colab's first cell and Binder's packages, each in a fresh virtual environment outside the repository.

    make doors

The commit that is checked out counts, as it would be cloned. Colab is a stand-in: an environment with torch
and an older numpy of its own, in whose kernel `google.colab` is loaded, and lessons alone in a folder.
"""

import os
import shutil
import subprocess
import venv

import pytest
import yaml

from lessons_lib.ops.badges import read_address
from lessons_lib.ops.pairs import NOTEBOOKS, list_lessons
from lessons_lib.results import REPOSITORY

OLDER_NUMPY = "numpy==2.3.4"  # not that of requirements.txt
COLABS = ("ipykernel", "nbclient", "ipywidgets==7.7.1")  # Colab has this older one
TORCH = next(
    line
    for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line.startswith("torch==")
)
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
print(next(c for c in notebook.cells if c.cell_type == "code").outputs[-1].text)
"""


def make_environment(folder):
    """The Python of a new virtual environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def run(*command, **options):
    """Runs a command; fails with what it said."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """(python, environment variables) of a stand-in for Colab, where the repository's address leads here."""
    folder = tmp_path_factory.mktemp("colab")
    python = make_environment(folder / "venv")
    run(python, "-m", "pip", "install", "-q", TORCH, OLDER_NUMPY, *COLABS)
    (folder / "modules" / "google" / "colab").mkdir(parents=True)
    (folder / "modules" / "google" / "colab" / "__init__.py").touch()
    (folder / "modules" / "sitecustomize.py").write_text("import google.colab\n")
    variables = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LESSONS_")},
        "PYTHONPATH": str(folder / "modules"),
        "LESSONS_PROFILE": "smoke",
        "HF_HUB_OFFLINE": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{REPOSITORY}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{read_address()}",
    }
    return python, variables


@pytest.mark.parametrize("lesson", [path.stem for path in list_lessons()])
def test_lesson_sets_itself_up_in_colab(colab, tmp_path, lesson):
    """Failing means the badge leads to a lesson that does not run, or that breaks Colab's own packages."""
    python, variables = colab
    shutil.copy(NOTEBOOKS / f"{lesson}.ipynb", tmp_path)
    said = run(python, "-c", EXECUTE, f"{lesson}.ipynb", cwd=tmp_path, env=variables)
    assert "profile smoke" in said
    ask = "import numpy, torch; print(f'numpy=={numpy.__version__}', torch.__version__)"
    assert run(python, "-c", ask).split() == [OLDER_NUMPY, TORCH.removeprefix("torch==") + "+cpu"]


def test_binder_can_install_its_packages(tmp_path):
    """Failing means Binder ends before the first page."""
    run("git", "clone", "-q", f"file://{REPOSITORY}", tmp_path / "clone")
    listed = yaml.safe_load((tmp_path / "clone" / "environment.yml").read_text())["dependencies"]
    (tmp_path / "clone" / "pip.txt").write_text(
        "\n".join(next(x for x in listed if isinstance(x, dict))["pip"])
    )
    python = make_environment(tmp_path / "venv")
    quick = {**os.environ, "PIP_RETRIES": "0"}  # an index that cannot be reached is passed over
    run(python, "-m", "pip", "install", "-q", "-r", "pip.txt", cwd=tmp_path / "clone", env=quick)
    run(python, "-m", "pip", "check")
    doctor = [python, "-m", "lessons_lib", "doctor", "--json"]
    assert '"laptop": true' in run(*doctor, cwd=tmp_path / "clone")

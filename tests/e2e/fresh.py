"""Colab's first cell and Binder's packages, each in a fresh virtual environment outside the
repository.

    make doors

The commit that is checked out counts, as it would be cloned. Colab is a stand-in: an environment
with torch and Colab's own, older packages, in whose kernel `google.colab` is loaded, and lessons
alone in a folder.
"""

import os
import shutil
import subprocess
import venv

import pytest
import yaml

from lessons_lib.course.repo_address import read_address
from lessons_lib.lessons import list_lessons
from lessons_lib.paths import NOTEBOOKS, REPOSITORY

# what Colab brings along, older than requirements.txt: the ranges must run on it (its list of late
# 2025)
COLABS = [
    "ipykernel==6.17.1",
    "ipython==7.34.0",
    "ipywidgets==7.7.1",
    "jupyter_client==7.4.9",
    "matplotlib==3.10.0",
    "nbclient==0.10.2",
    "nbformat==5.10.4",
    "numpy==2.0.2",
    "packaging==25.0",
    "pandas==2.2.2",
    "psutil==5.9.5",
    "scikit-learn==1.6.1",
    "scipy==1.16.3",
    "seaborn==0.13.2",
    "tqdm==4.67.1",
    "traitlets==5.7.1",
]
# and what the ranges make pip replace or leave
OTHERS = [
    "accelerate==1.13.0",
    "datasets==4.0.0",
    "huggingface_hub==1.17.0",
    "peft==0.19.1",
    "pyarrow==18.1.0",
    "torchao==0.10.0",
    "transformers==5.9.0",
]
TORCH = next(
    line
    for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line.startswith("torch==")
)
CPU_TORCH = ("--extra-index-url", "https://download.pytorch.org/whl/cpu")
QUICK = {**os.environ, "PIP_RETRIES": "0"}  # an index that cannot be reached is passed over
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
# answering a widget can make nbclient miss a reply: see lessons_lib/course/headless.py
NotebookClient.on_comm_open_jupyter_widget = lambda *message: None
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
    """(python, environment variables) of a stand-in for Colab, where the repository's address leads
    here.
    """
    folder = tmp_path_factory.mktemp("colab")
    python = make_environment(folder / "venv")
    run(python, "-m", "pip", "install", "-q", TORCH, *COLABS, *OTHERS, *CPU_TORCH, env=QUICK)
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
    """Failing means the badge leads to a lesson that does not run, or that breaks Colab's own
    packages.
    """
    python, variables = colab
    shutil.copy(NOTEBOOKS / f"{lesson}.ipynb", tmp_path)
    said = run(python, "-c", EXECUTE, f"{lesson}.ipynb", cwd=tmp_path, env=variables)
    assert "profile smoke" in said
    have = run(python, "-m", "pip", "freeze").splitlines()
    assert [
        one
        for one in COLABS
        if one.replace("_", "-") not in [line.replace("_", "-") for line in have]
    ] == []
    assert any(line.startswith(TORCH) for line in have)


def test_binder_can_install_its_packages(tmp_path):
    """Failing means Binder ends before the first page."""
    run("git", "clone", "-q", f"file://{REPOSITORY}", tmp_path / "clone")
    listed = yaml.safe_load((tmp_path / "clone" / "environment.yml").read_text())["dependencies"]
    (tmp_path / "clone" / "pip.txt").write_text(
        "\n".join(next(x for x in listed if isinstance(x, dict))["pip"])
    )
    python = make_environment(tmp_path / "venv")
    run(python, "-m", "pip", "install", "-q", "-r", "pip.txt", cwd=tmp_path / "clone", env=QUICK)
    run(python, "-m", "pip", "check")
    doctor = [python, "-m", "lessons_lib", "doctor", "--json"]
    assert '"laptop": true' in run(*doctor, cwd=tmp_path / "clone")

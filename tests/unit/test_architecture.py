"""The house as its imports draw it: every arrow points from later rooms to earlier ones."""

import ast
import subprocess
import sys

import pytest

from lessons_lib.paths import REPOSITORY

LIBRARY = REPOSITORY / "lessons_lib"
# what a room may import beside itself: all that stands before it
ORDER = [
    "paths",
    "errors",
    "progress",
    "lessons",
    "hardware",
    "assets",
    "profiles",
    "data",
    "models",
    "training",
    "evaluation",
    "retrieval",
    "report",
]
ENDS = ("grading", "course", "studies")  # see all of the above, and not one another
DOORS = ("__init__", "__main__", "ops")  # may open every room


def list_imports(code):
    """The rooms that a piece of code imports, at whatever depth."""
    rooms = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "lessons_lib":
            modules = [f"lessons_lib.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        rooms |= {name.split(".")[1] for name in modules if name.startswith("lessons_lib.")}
    return rooms


def find_wrong_arrows(room, code):
    """The rooms that `room` imports and may not."""
    if room in DOORS:
        return []
    before = ORDER if room in ENDS else ORDER[: ORDER.index(room)]
    return sorted(list_imports(code) - {room, *before})


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    """Failing means a reader cannot follow the data through the folders from first to last."""
    room = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    assert find_wrong_arrows(room, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "code", "wrong"),
    [
        ("data", "from lessons_lib.models.load import load_tokenizer", ["models"]),
        ("training", "def f():\n    from lessons_lib import evaluation", ["evaluation"]),
        ("studies", "import lessons_lib.course.run", ["course"]),
        ("course", "from lessons_lib.grading import grade", ["grading"]),
        ("evaluation", "from lessons_lib.training.batches import pad_batch", []),
    ],
)
def test_a_planted_arrow_is_found(room, code, wrong):
    """Failing means the test above cannot fail."""
    assert find_wrong_arrows(room, code) == wrong


@pytest.mark.parametrize(
    "module",
    ["lessons", "course.repo_address", "course.doctor", "grading.submissions", "grading.sandbox"],
)
def test_tools_import_no_torch(module):
    """Failing means listing lessons or rewriting an address takes seconds, and a broken torch stops
    it.
    """
    code = f"import sys, lessons_lib.{module}; print('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert run.stdout.strip() == "False", run.stderr

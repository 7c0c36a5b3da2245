"""At which commit a published number was measured, and which of its files have changed since.

Contract: git is asked, nothing is kept beside it. It says that files changed, not whether the
numbers would.
"""

import ast
import json
import subprocess
from pathlib import Path

from lessons_lib.errors import CourseError
from lessons_lib.paths import PUBLISHED, REPOSITORY

DIRTY = "+"  # behind a commit: files differed from it
NOT_CODE = (
    "lessons_lib/profiles.toml",
    "lessons_lib/assets.toml",
    "data/assets.txt",
    "requirements.txt",
)
# what publishing writes itself, so that the second lesson of a run is not said to have been changed
# by the first
OUTPUTS = ("*.ipynb", "data/results", "README.md")


class ProvenanceError(CourseError):
    """Git cannot be asked."""


def read_commit(root: Path = REPOSITORY) -> str:
    """The commit that is checked out, such as "905a2df", or "905a2df+" where tracked files but
    OUTPUTS differ from it; "" where there is no git, as in a copy that was downloaded as an
    archive."""
    try:
        commit = _ask_git(root, "rev-parse", "--short", "HEAD").strip()
        but_outputs = [f":(exclude){path}" for path in OUTPUTS]
        status = ("status", "--porcelain", "--untracked-files=no", "--", ".", *but_outputs)
        changed = _ask_git(root, *status).strip()
    except ProvenanceError:
        return ""
    return commit + DIRTY if changed else commit


def list_changes(root: Path = REPOSITORY, published: Path = PUBLISHED) -> dict[str, list[str]]:
    """Results files (such as "study/04_distilbert_lora_imdb") with the files that have changed
    since they were measured, of those that their numbers come from. A file that was only moved has
    not changed.

    Raises ProvenanceError where git cannot be asked.
    """
    _ask_git(root, "rev-parse", "HEAD")
    changes = {}
    for path in sorted(published.glob("*/*.json")):
        commits = json.loads(path.read_text(encoding="utf-8")).get("commits", [])
        needed = _list_needed(_find_entry(root, path.parent.name, path.stem), root)
        changed = set()
        for commit in commits:
            changed |= _list_changed(root, commit.removesuffix(DIRTY))
        unknown = [] if commits else ["(nobody knows the commit)"]
        changes[f"{path.parent.name}/{path.stem}"] = unknown + sorted(changed & needed)
    return changes


def print_changes() -> None:
    """Says of every results file what has changed since it was measured."""
    for name, files in list_changes().items():
        if not files:
            print(f"{name}: nothing has changed")
            continue
        print(f"{name}: {len(files)} changed")
        for file in files:
            print(f"    {file}")


def _ask_git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        raise ProvenanceError("git is not installed.", remedy="install git.") from error
    if run.returncode:
        raise ProvenanceError(
            f"git says: {run.stderr.strip()}.",
            where=str(root),
            remedy="ask in a clone with its whole history (git fetch --unshallow).",
        )
    return run.stdout


def _list_changed(root: Path, commit: str) -> set[str]:
    """Files that differ from those of a commit; those that were only moved are left out."""
    changed = set()
    for line in _ask_git(root, "diff", "--name-status", "-M100%", commit, "--").splitlines():
        kind, *names = line.split("\t")
        if kind != "R100":
            changed.add(names[-1])
    return changed


def _find_entry(root: Path, kind: str, lesson: str) -> Path:
    """The file that measured: a lesson's, a study's, or a benchmark's."""
    if kind == "study":
        return root / "lessons_lib" / "studies" / f"study_{lesson[:2]}.py"
    if kind == "bench":
        name = "retrieval" if lesson[:2].isdigit() else lesson.rsplit("_", 1)[0]
        return root / "benchmarks" / f"bench_{name}.py"
    return root / "notebooks" / f"{lesson}.py"


def _list_needed(entry: Path, root: Path) -> set[str]:
    """The files that a number comes from: its entry, every module it imports, directly or not,
    settings, and the samples that these files name."""
    waiting = [entry]
    needed = set(NOT_CODE)
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name not in needed and path.is_file():
            needed.add(name)
            waiting += _find_modules(path.read_text(encoding="utf-8"), root)
    code = "".join((root / name).read_text(encoding="utf-8") for name in needed - set(NOT_CODE))
    for sample in (root / "data" / "samples").glob("*"):
        if sample.name in code or sample.stem in code:
            needed.add(sample.relative_to(root).as_posix())
    return needed


def _find_modules(code: str, root: Path) -> list[Path]:
    """The files of the package's modules that a piece of code imports."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lessons_lib"):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    paths = []
    for name in names:
        place = root / name.replace(".", "/")
        paths += [place.with_suffix(".py"), place / "__init__.py"]
    return [path for path in paths if path.is_file()]

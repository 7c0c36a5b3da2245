"""Which sources a published number came from, and which numbers are older than their sources.

Contract: a hash covers what can change a number: code without lines of comment and docstrings, the settings
that it reads, samples. It says that sources changed, not whether the numbers would.
"""

import ast
import hashlib
import json
import re
import tomllib
from pathlib import Path

from lessons_lib.ops.pairs import NOTEBOOKS, read_source
from lessons_lib.results import PUBLISHED, REPOSITORY

TABLES = ("lessons_lib/assets.toml", "data/assets.txt")
PROFILES = "lessons_lib/profiles.toml"
KNOWN_STALE = PUBLISHED / "known_stale.toml"
SETUP = "colab"  # the tag of a lesson's cell that installs the course: it computes nothing
# these show, keep and find, and compute nothing
SILENT = ("assets", "ops/pairs", "ops/provenance", "plots", "progress", "results", "widgets")
NO_NUMBERS = {f"lessons_lib/{name}.py" for name in SILENT}


def hash_sources(entry: Path, root: Path = REPOSITORY) -> dict[str, str]:
    """The first 12 hex digits of the SHA-256 of `entry` (a lesson's .py, a study's module or a benchmark),
    of every module of the package that it needs, directly or not, of its settings, and of the samples that
    the code names.

    Keys are paths relative to `root`.
    """
    waiting, code = [entry], {}
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name not in code and name not in NO_NUMBERS:
            code[name] = _read_code(path)
            waiting += _find_modules(code[name], root)
    code = {name: _strip(text) for name, text in sorted(code.items())}
    samples = [path.relative_to(root).as_posix() for path in sorted((root / "data" / "samples").iterdir())]
    named = [sample for sample in samples if any(Path(sample).name in text for text in code.values())]
    settings = {PROFILES: _hash(_read_settings(root / PROFILES, entry).encode())}
    return (
        {name: _hash(text.encode()) for name, text in code.items()}
        | settings
        | {name: _hash((root / name).read_bytes()) for name in (*named, *TABLES)}
    )


def list_stale() -> dict[str, list[str]]:
    """Published results files (such as "study/04_distilbert_lora_imdb") whose sources have changed since.

    Values are the names of those sources; "(never recorded)" where a file does not say what it came from.
    """
    stale = {}
    for path in sorted(PUBLISHED.glob("*/*.json")):
        then = json.loads(path.read_text(encoding="utf-8")).get("sources") or {"(never recorded)": ""}
        now = hash_sources(_find_entry(path.parent.name, path.stem))
        changed = [name for name in then.keys() | now.keys() if then.get(name) != now.get(name)]
        if changed:
            stale[f"{path.parent.name}/{path.stem}"] = sorted(changed)
    return stale


def read_known_stale() -> dict[str, str]:
    """Results files known to be older than their sources, each with the reason why they stand."""
    return tomllib.loads(KNOWN_STALE.read_text(encoding="utf-8"))


def _find_entry(kind: str, lesson: str) -> Path:
    if kind == "study":
        return REPOSITORY / "lessons_lib" / "studies" / f"study_{lesson[:2]}.py"
    if kind == "bench":
        return REPOSITORY / "tests" / "benchmarks" / "bench_retrieval.py"
    return NOTEBOOKS / f"{lesson}.py"


def _read_code(path: Path) -> str:
    if path.parent.name != NOTEBOOKS.name:
        return path.read_text(encoding="utf-8")
    cells = (cell for cell in read_source(path).cells if cell.cell_type == "code")
    return "\n".join(cell.source for cell in cells if SETUP not in cell.metadata.get("tags", []))


def _read_settings(profiles: Path, entry: Path) -> str:
    """The profiles without the tables of other lessons than the one whose number the entry's name has."""
    number = (re.findall(r"\d\d", entry.name) or [""])[0]
    table = tomllib.loads(profiles.read_text(encoding="utf-8"))
    for profile in table.values():
        for name in [name for name in profile if name[:2].isdigit() and not name.startswith(number)]:
            del profile[name]
    return json.dumps(table, sort_keys=True)


def _strip(code: str) -> str:
    """Without blank lines, lines of comment, and docstrings, which change no number."""
    lines = dict(enumerate(code.splitlines(), 1))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            for number in range(node.body[0].lineno, node.body[0].end_lineno + 1):
                lines.pop(number)
    return "\n".join(line for line in lines.values() if line.strip() and not line.lstrip().startswith("#"))


def _find_modules(code: str, root: Path) -> list[Path]:
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lessons_lib"):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("lessons_lib.")}
    paths = (root / f"{name.replace('.', '/')}.py" for name in names)
    return [path for path in paths if path.is_file()]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]

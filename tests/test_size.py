"""The library stays thin enough to read."""

import ast
import io
import tokenize
from statistics import median

from lessons_lib.ops.pairs import list_lessons
from lessons_lib.results import REPOSITORY

LIBRARY = REPOSITORY / "lessons_lib"
NOT_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def count_code_lines(source):
    """Lines of code: blank lines, comments and docstrings do not count."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def modules_that_notebooks_import():
    """Those named in a lesson's imports; `assets` and `progress` serve other modules alone."""
    names = set()
    for lesson in list_lessons():
        for node in ast.walk(ast.parse(lesson.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "lessons_lib":
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("lessons_lib."):
                names.add(node.module.split(".")[1])
    return {f"{name}.py" for name in names}


def count_lines(paths):
    return sum(count_code_lines(path.read_text(encoding="utf-8")) for path in paths)


def test_library_is_thin():
    """Failing means there is more library than a student will read: look for what a package does already."""
    imported = modules_that_notebooks_import()
    flat = [path for path in LIBRARY.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert count_lines(path for path in flat if path.name in imported) <= 2000
    assert {path.name for path in flat} - imported == {"assets.py", "progress.py"}
    assert count_lines(LIBRARY / name for name in ("assets.py", "progress.py")) <= 140


def test_ops_are_thin():
    """Failing means there is more behind the scenes than a maintainer will read."""
    assert count_lines((LIBRARY / "ops").glob("*.py")) <= 1300


def test_studies_are_thin():
    """Failing means the experiments behind the claims are more than a sceptic will read."""
    assert count_lines((LIBRARY / "studies").glob("*.py")) <= 1000


def test_functions_are_short():
    """Failing means a function does not fit on a screen."""
    lengths = {}
    for path in LIBRARY.rglob("*.py"):
        for node in functions(ast.parse(path.read_text(encoding="utf-8"))):
            lengths[f"{path.name}:{node.name}"] = node.end_lineno - node.lineno + 1
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    assert median(lengths.values()) <= 12


def test_counting_leaves_out_what_is_not_code():
    """Failing means the limit above counts something else than it says."""
    assert (
        count_code_lines('"""Doc."""\n\n# why\nx = 1\n\n\ndef f():\n    """Doc\n    more."""\n    return x\n')
        == 3
    )

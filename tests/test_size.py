"""The library stays thin enough to read."""

import ast
import io
import tokenize
from statistics import median

import pytest

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


@pytest.mark.parametrize(("folder", "most"), [(LIBRARY, 2000), (LIBRARY / "ops", 1300)])
def test_library_is_thin(folder, most):
    """Failing means there is more library than a student will read: look for what a package does already."""
    sources = [path.read_text(encoding="utf-8") for path in folder.glob("*.py") if path.name != "__main__.py"]
    assert sum(map(count_code_lines, sources)) <= most


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

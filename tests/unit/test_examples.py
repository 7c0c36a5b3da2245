"""The examples in docstrings."""

import doctest
import importlib
import pkgutil

import pytest

import lessons_lib

OTHERS = ("__main__", "ops", "lab", "worker")  # these run something, or only forward
MODULES = [
    module.name
    for module in pkgutil.walk_packages(lessons_lib.__path__, "lessons_lib.")
    if module.name.rpartition(".")[2] not in OTHERS
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    """Failing means a docstring shows something that is not so."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    """Failing means the test above looks at nothing."""
    tests = 0
    for name in MODULES:
        tests += doctest.testmod(importlib.import_module(name)).attempted
    assert tests >= 10

"""The pair of a lesson: the .py in percent format is the source, the .ipynb is generated from it.

Contract: two files agree when their cells have equal types, sources and tags; time stamps never
matter.
"""

from pathlib import Path

import jupytext
from nbformat import NotebookNode

from lessons_lib.errors import SettingError
from lessons_lib.paths import NOTEBOOKS

SETUP = "colab"  # the tag of a lesson's cell that installs the course: it computes nothing


def list_lessons(number: str = "") -> list[Path]:
    """The lessons' .py files in order, or the one whose name starts with `number`.

    Raises SettingError if there is none.
    """
    lessons = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
    chosen = [path for path in lessons if path.name.startswith(number.zfill(2) if number else "")]
    if not chosen:
        names = ", ".join(path.stem for path in lessons)
        raise SettingError(
            f"there is no lesson {number!r}.",
            where="LESSON",
            remedy=f"the number of one of {names}.",
        )
    return chosen


def read_source(path: Path) -> NotebookNode:
    """The notebook that a .py describes, without outputs, with cell ids that do not change."""
    notebook = jupytext.read(path)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat = 4
    notebook.nbformat_minor = 5
    return notebook


def describe_cells(notebook: NotebookNode) -> list[tuple[str, str, tuple[str, ...]]]:
    """Type, source and tags of every cell; the two files of a pair must agree in them."""
    return [(c.cell_type, c.source, tuple(c.metadata.get("tags", []))) for c in notebook.cells]

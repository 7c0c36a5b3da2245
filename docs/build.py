"""The course as a web page in build/site, from the executed lessons: `make site`.

Pages are staged in build/site-source first: README becomes the front page, a lesson gets links to
its two files, its figures their alt text in HTML, and its widgets, which need a kernel, a sentence
instead.
"""

import re
import shutil
import sys
from html import escape
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from sphinx.cmd.build import main as sphinx_build

from lessons_lib.lessons import SETUP, list_lessons
from lessons_lib.paths import REPOSITORY

STAGE = REPOSITORY / "build" / "site-source"
SITE = REPOSITORY / "build" / "site"
PAGES = (
    "notebooks/glossary.md",
    "data/results/README.md",
    "notebooks/assignments/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
LINKED = ("CITATION.cff", "LICENSE", "docs", "lessons_lib")  # what pages link to beside pages
CONTENTS = """
```{{toctree}}
:hidden:
:caption: Lessons

{lessons}
```

```{{toctree}}
:hidden:
:caption: Beside them

{others}
```
"""


def stage() -> None:
    """Writes every page's source."""
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    for name in LINKED:
        (STAGE / name).symlink_to(REPOSITORY / name)
    for name in PAGES:
        (STAGE / name).parent.mkdir(parents=True, exist_ok=True)
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        (STAGE / name).write_text(
            re.sub(r"(\]\((?:\.\./)*)README\.md", r"\1index.md", text), encoding="utf-8"
        )
    shutil.copy(REPOSITORY / "notebooks" / "open_in_colab.svg", STAGE / "notebooks")
    lessons = list_lessons()
    for lesson in lessons:
        stage_lesson(lesson)
    contents = CONTENTS.format(
        lessons="\n".join(f"notebooks/{lesson.stem}" for lesson in lessons),
        others="\n".join(name.removesuffix(".md") for name in PAGES),
    )
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (STAGE / "index.md").write_text(readme + contents, encoding="utf-8")


def stage_lesson(lesson: Path) -> None:
    """An executed lesson as the site shows it, and its pair to download, as it is."""
    notebook = nbformat.read(lesson.with_suffix(".ipynb"), as_version=4)
    files = STAGE / "notebooks" / "files"
    files.mkdir(exist_ok=True)
    for path in (lesson, lesson.with_suffix(".ipynb")):
        shutil.copy(path, files)
    name = lesson.stem
    title, _, rest = notebook.cells[0].source.partition("\n")
    links = (
        f"{{download}}`Notebook (.ipynb) <files/{name}.ipynb>` · {{download}}`Source (.py) "
        f"<files/{name}.py>`"
    )
    notebook.cells[0].source = f"{title}\n\n{links}\n{rest}"
    notebook.cells = [c for c in notebook.cells if SETUP not in c.metadata.get("tags", [])]
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            show_statically(output)
    nbformat.write(notebook, STAGE / "notebooks" / f"{name}.ipynb")


def show_statically(output: NotebookNode) -> None:
    """Figures as HTML with their alt text, a widget as a sentence; other outputs stay."""
    data = output.get("data", {})
    if "image/png" in data:
        alt = escape(output.metadata["image/png"]["alt"], quote=True)
        image = data["image/png"].replace("\n", "")
        output.data = {"text/html": f'<img alt="{alt}" src="data:image/png;base64,{image}">'}
    elif "application/vnd.jupyter.widget-view+json" in data:
        output.data = {
            "text/html": "<p><em>A widget stands here: run the notebook to use it.</em></p>"
        }


if __name__ == "__main__":
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    options = ["-b", "html", "-c", str(Path(__file__).parent), "-W", "--keep-going", "-q"]
    failed = sphinx_build([*options, "-d", str(STAGE.parent / "site-cache"), str(STAGE), str(SITE)])
    print(f"Site: {SITE / 'index.html'}")
    sys.exit(failed)

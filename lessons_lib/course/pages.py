"""HTML pages of executed lessons, and the index page that lists them.

Contract: pages load nothing from the network and have every figure's alt text, which nbconvert's
own template leaves out.
"""

import re
from pathlib import Path

import nbformat
from jinja2 import FileSystemLoader
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from lessons_lib.paths import NOTEBOOKS

WIDGET = "application/vnd.jupyter.widget-view+json"
FOLDS = {"<details>": "<!-- a fold begins -->", "</details>": "<!-- a fold ends -->"}
NO_WIDGET = "(Here the notebook has a control to move or to type into.)"


def write_page(notebook: NotebookNode, path: Path) -> None:
    """Writes an executed notebook as a page; its links to terms lead to the glossary's page."""
    path.write_text(_render_page(notebook), encoding="utf-8")


def _render_page(notebook: NotebookNode) -> str:
    exporter = HTMLExporter(
        embed_images=True,
        extra_loaders=[FileSystemLoader(Path(__file__).with_name("templates"))],
        template_file="lesson.html.j2",
        mathjax_url="",
        require_js_url="",
        jquery_url="",
    )
    notebook = nbformat.from_dict(notebook)
    _replace_widgets(notebook)
    _mark_folds(notebook)
    about = {"name": read_title(notebook), "path": str(NOTEBOOKS)}
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": about})
    body = body.replace('href="glossary.md#', 'href="glossary.html#')
    for tag, mark in FOLDS.items():
        body = body.replace(mark, tag)
    return re.sub(r'<script src="">\s*</script>', "", body)


def _mark_folds(notebook: NotebookNode) -> None:
    """Puts marks in the place of <details> in prose: nbconvert, which embeds pictures piece by
    piece, would close a fold before what it holds."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for tag, mark in FOLDS.items():
                cell.source = cell.source.replace(tag, mark)


def _replace_widgets(notebook: NotebookNode) -> None:
    """Replaces each control by a sentence: a page would have to load its renderer from the
    network.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                output["data"] = {"text/plain": NO_WIDGET}


def write_glossary(folder: Path) -> None:
    """Writes the glossary as a page, `glossary.html`, with the anchors that lessons link to."""
    text = (NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
    body = _render_page(new_notebook(cells=[new_markdown_cell(text)]))
    body = re.sub(r'<h2 id="([^"]*)"', lambda match: f'<h2 id="{slugify(match[1])}"', body)
    (folder / "glossary.html").write_text(body, encoding="utf-8")


def slugify(heading: str) -> str:
    """A heading's anchor, as code hosts write it: lower case, hyphens for spaces, no other
    signs.
    """
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def read_title(notebook: NotebookNode) -> str:
    """The lesson's first heading."""
    text = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = text.splitlines()[0]
    return heading.lstrip("# ")


def write_index(rows: list[dict[str, str]], folder: Path, profile: str) -> None:
    """Writes the index page. rows: one per lesson, with keys lesson, headline, seconds, memory."""
    lines = [f"# Fine-tuning lessons\n\nExecuted on this machine in the {profile} profile.\n"]
    lines += ["| lesson | result | seconds | peak memory |", "|---|---|---|---|"]
    for row in rows:
        link = f"[{row['lesson']}]({row['lesson']}.html)"
        lines.append(f"| {link} | {row['headline']} | {row['seconds']} | {row['memory']} |")
    lines += ["\nThe words of the field: [glossary](glossary.html)."]
    write_page(new_notebook(cells=[new_markdown_cell("\n".join(lines))]), folder / "index.html")

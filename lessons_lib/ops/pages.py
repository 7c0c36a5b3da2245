"""HTML pages of executed lessons, and the index page that lists them.

Contract: pages stand alone (nothing is loaded from the network) and carry every figure's alt text, which
nbconvert's own template leaves out.
"""

import re
from html import escape
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbconvert import HTMLExporter
from nbformat import NotebookNode

TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block data_png scoped %}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}" tabindex="0">
<img src="data:image/png;base64,{{ output.data['image/png'] }}"
 alt="{{ output.metadata.get('image/png', {}).get('alt', '') | e }}">
</div>
{% endblock data_png %}"""
INDEX = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Fine-tuning lessons</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 17px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem }}
td, th {{ padding: .3rem .9rem .3rem 0; text-align: left }} a {{ color: #0b57a4 }}</style>
<h1>Fine-tuning lessons</h1><p>Executed on this machine in the {profile} profile.</p>
<table><tr><th>Lesson<th>Result<th>Seconds<th>Peak memory</tr>{rows}</table></html>"""


def write_page(notebook: NotebookNode, path: Path) -> None:
    """Writes an executed notebook as a page of its own."""
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"lesson.html.j2": TEMPLATE})],
        template_file="lesson.html.j2",
        mathjax_url="",
        require_js_url="",
        jquery_url="",
    )
    notebook = nbformat.from_dict(notebook)
    notebook.metadata.pop("widgets", None)  # their renderer would be fetched from the network
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": read_title(notebook)}})
    path.write_text(re.sub(r'<script src="">\s*</script>', "", body), encoding="utf-8")


def read_title(notebook: NotebookNode) -> str:
    """The lesson's first heading."""
    return next(c.source for c in notebook.cells if c.cell_type == "markdown").splitlines()[0].lstrip("# ")


def write_index(rows: list[dict[str, str]], folder: Path, profile: str) -> None:
    """The index page: a row a lesson with keys lesson, headline, seconds, memory."""
    cells = "".join(
        f'<tr><td><a href="{escape(row["lesson"])}.html">{escape(row["lesson"])}</a><td>'
        f"{escape(row['headline'])}<td>{escape(row['seconds'])}<td>{escape(row['memory'])}</tr>"
        for row in rows
    )
    (folder / "index.html").write_text(INDEX.format(rows=cells, profile=escape(profile)), encoding="utf-8")

"""Schematics: drawn once as SVG files, shown in a notebook with their alt text.

Contract: a schematic is a picture on a light ground, so it can be read in the dark theme too; it is
part of the page and loads nothing.
"""

import base64
import html
import re
from pathlib import Path

from IPython.display import HTML, display

FOLDER = Path(__file__).with_name("schematics")
TITLE = re.compile(r"<title>(.+?)</title>", re.DOTALL)


def show_schematic(name: str) -> None:
    """Displays `schematics/<name>.svg`. Its alt text is the file's <title>, which it must have.

    Raises ValueError for a file without a title, FileNotFoundError for no such file.
    """
    text = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    title = TITLE.search(text)
    if title is None or len(title[1].split()) < 4:
        raise ValueError(f"{name}.svg needs a <title>: a sentence that says what it shows.")
    alt = html.escape(" ".join(title[1].split()), quote=True)
    data = base64.b64encode(text.encode()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    display(HTML(f'<img src="{source}" alt="{alt}" style="max-width: 100%">'))

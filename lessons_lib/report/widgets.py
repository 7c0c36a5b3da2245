"""Playgrounds: boxes and sliders over plain functions that work without them.

Contract: a widget only calls the function it is given and shows what that returns; where widgets
cannot run, the notebook has called the same function in a cell.
"""

import html
from collections.abc import Callable

import ipywidgets


def text_playground(answer: Callable[[str], str], example: str, label: str) -> ipywidgets.VBox:
    """A box for a text, a button, and below them what `answer(text)` returns."""
    box = ipywidgets.Textarea(value=example, description=label, layout={"width": "95%"})
    button = ipywidgets.Button(description="Predict", button_style="primary")
    shown = ipywidgets.HTML()

    def refresh(_: object = None) -> None:
        """Shows the answer to what stands in the box."""
        text = box.value.strip()
        said = html.escape(answer(text) if text else "Type a sentence first.")
        shown.value = f'<pre style="white-space: pre-wrap; line-height: 1.4">{said}</pre>'

    button.on_click(refresh)
    refresh()
    return ipywidgets.VBox([box, button, shown])

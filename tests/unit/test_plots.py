"""Figures: none without alt text, none without its numbers."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from lessons_lib import report
from lessons_lib.report import plots


@pytest.mark.parametrize("alt", ["", "   ", "a plot"])
def test_figure_without_alt_text_is_refused(alt):
    """Failing means figures reach the page that some readers cannot read."""
    with pytest.raises(ValueError, match="alt text"):
        report.show_figure(plt.figure(), alt)
    plt.close("all")


def test_alt_text_is_stored_with_the_figure(monkeypatch):
    """Failing means the HTML page has no alt text to show."""
    shown = {}
    monkeypatch.setattr(plots, "display", lambda data, raw, metadata: shown.update(metadata))
    report.show_figure(plt.figure(), "A line that rises from left to right.")
    assert shown == {"image/png": {"alt": "A line that rises from left to right."}}


def test_intervals_are_drawn_in_the_tables_order():
    """Failing means labels stand beside other rows' dots."""
    table = pd.DataFrame(
        {"value": [0.9, 0.5], "low": [0.8, 0.4], "high": [0.95, 0.6]}, index=["a", "b"]
    )
    axes = report.plot_intervals(table, "title", "accuracy").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.lines[0].get_xdata().tolist() == [0.9, 0.5]
    assert axes.lines[0].get_ydata().tolist() == [1, 0]
    plt.close("all")

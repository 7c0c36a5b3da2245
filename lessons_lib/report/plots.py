"""Figures: colour-blind-safe, each with alt text, which `show_figure` refuses to do without.

Contract: functions take tables and return a matplotlib Figure; `show_figure` puts it on the page
with its alt text in the output's metadata, where HTML export finds it. Nothing here computes a
metric.
"""

import io
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display
from matplotlib.figure import Figure

PALETTE = sns.color_palette("colorblind")
WIDTH = 7.2  # inches


def use_course_style() -> None:
    """Sets the look of every figure: readable sizes, a light grid, the colour-blind palette."""
    sns.set_theme(style="whitegrid", palette="colorblind", font_scale=1.05)
    plt.rcParams |= {"figure.dpi": 110, "axes.titlelocation": "left", "axes.titleweight": "bold"}


def show_figure(figure: Figure, alt: str) -> None:
    """Displays a figure as PNG with `alt` (a sentence for those who cannot see it) and closes it.

    Raises ValueError for an empty alt text.
    """
    if len(alt.split()) < 4:
        raise ValueError("A figure needs alt text: a sentence that says what it shows.")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    display(
        {"image/png": buffer.getvalue(), "text/plain": f"Figure: {alt}"},
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )


def list_rows(table: pd.DataFrame) -> str:
    """Every row's name, value, low and high, for an alt text."""
    return "; ".join(
        f"{n} {r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for n, r in table.iterrows()
    )


def plot_intervals(
    table: pd.DataFrame,
    title: str,
    xlabel: str,
    reference: float | None = None,
    *,
    is_share: bool = False,
) -> Figure:
    """Dots with whiskers, a row each: columns value, low, high.

    reference: where a dashed line is drawn. is_share: cuts the axis at what is possible, 0 and 1.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.38 * len(table)))
    rows = np.arange(len(table))[::-1]
    spread = np.abs(table[["low", "high"]].to_numpy(float).T - table["value"].to_numpy(float))
    axes.errorbar(
        table["value"], rows, xerr=spread, fmt="o", color=PALETTE[0], capsize=3, markersize=6
    )
    if reference is not None:
        axes.axvline(reference, color="0.4", linestyle="--", linewidth=1)
    for row, value in zip(rows, table["value"], strict=True):
        axes.annotate(
            f"{value:.3f}",
            (value, row),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            size=9,
            # over the dashed line, which would hide a minus sign
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
    axes.set(yticks=rows, yticklabels=table.index, xlabel=xlabel, title=title)
    axes.set_ylim(-0.6, len(table) - 0.3)
    axes.margins(x=0.1)
    if is_share:
        left, right = axes.get_xlim()
        axes.set_xlim(max(left, 0), min(right, 1.01))
    return figure


def plot_series(
    series: dict[str, pd.DataFrame],
    title: str,
    xlabel: str,
    reference: float | None = None,
    *,
    is_share: bool = False,
) -> Figure:
    """As `plot_intervals`, with several dots of different colours in a row: a table for each
    colour, with the rows that it has. Rows stand in the order in which the tables first name them.
    """
    names = list(dict.fromkeys(name for table in series.values() for name in table.index))
    places = {name: place for place, name in enumerate(reversed(names))}
    shared = any(table.index.isin(other.index).any() for table, other in pairwise(series.values()))
    offsets = np.linspace(0.22, -0.22, len(series)) if shared else np.zeros(len(series))
    figure, axes = plt.subplots(
        figsize=(WIDTH, 1.4 + (0.6 if shared else 0.34) * len(names)), layout="constrained"
    )
    for (label, table), colour, offset in zip(series.items(), PALETTE, offsets, strict=False):
        spread = np.abs(table[["low", "high"]].to_numpy(float).T - table["value"].to_numpy(float))
        rows = [places[name] + offset for name in table.index]
        axes.errorbar(
            table["value"], rows, xerr=spread, fmt="o", color=colour, capsize=3, label=label
        )
    if reference is not None:
        axes.axvline(reference, color="0.4", linestyle="--", linewidth=1)
    axes.set(yticks=list(places.values()), yticklabels=list(places), xlabel=xlabel, title=title)
    axes.set_ylim(-0.6, len(names) - 0.4)
    if is_share:
        axes.set_xlim(-0.02, 1.02)
    figure.legend(loc="outside lower center", ncols=min(len(series), 4))
    return figure


def plot_curves(histories: dict[str, pd.DataFrame], title: str, by: str = "epoch") -> Figure:
    """Loss (training faint, validation strong) and validation accuracy by epoch or step, a colour a
    run.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH * 1.25, 3.4), layout="constrained")
    for colour, (name, history) in zip(PALETTE, histories.items(), strict=False):
        loss = history.dropna(subset="loss")
        left.plot(loss[by], loss["loss"], color=colour, alpha=0.35, linewidth=1)
        seen = history.dropna(subset="validation_loss")
        left.plot(seen[by], seen["validation_loss"], color=colour, marker="o", label=name)
        right.plot(seen[by], seen["validation_accuracy"], color=colour, marker="o")
    left.set(title=title, xlabel=by, ylabel="loss (faint: training)")
    right.set(xlabel=by, ylabel="validation accuracy")
    figure.legend(loc="outside lower center", ncols=len(histories))
    return figure


def plot_confusion(table: pd.DataFrame, title: str) -> Figure:
    """A confusion matrix (true class down, predicted across) with counts and shares of the true
    class.
    """
    figure, axes = plt.subplots(figsize=(1.6 + 1.3 * len(table), 1.2 + 1.0 * len(table)))
    shares = table.div(table.sum(axis=1), axis=0)
    notes = table.astype(str) + "\n" + (shares * 100).round(1).astype(str) + " %"
    sns.heatmap(shares, annot=notes, fmt="", cmap="cividis", vmin=0, vmax=1, cbar=False, ax=axes)
    axes.set(title=title)
    return figure


def plot_calibration(tables: dict[str, pd.DataFrame], title: str) -> Figure:
    """Accuracy against confidence; on the dashed diagonal the two agree."""
    figure, axes = plt.subplots(figsize=(WIDTH * 0.7, 3.8))
    lowest = min(0.5, *(table["confidence"].min() for table in tables.values()))
    axes.plot(
        [lowest, 1],
        [lowest, 1],
        color="0.4",
        linestyle="--",
        linewidth=1,
        label="confidence = accuracy",
    )
    for colour, (name, table) in zip(PALETTE, tables.items(), strict=False):
        axes.plot(table["confidence"], table["accuracy"], marker="o", color=colour, label=name)
    axes.set(xlabel="confidence", ylabel="accuracy", title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure

"""The README's table of results, generated from the published files.

Contract: what stands between the two marks is written here and by nobody's hand; `readme.toml` says
which numbers, under which words.
"""

import tomllib
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lessons_lib.evaluation.records import MetricName
from lessons_lib.paths import REPOSITORY
from lessons_lib.report.results import Results, find_results, read_results

README = REPOSITORY / "README.md"
PICTURE = REPOSITORY / "docs" / "static" / "results.png"
SHOWN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
START = "<!-- results: generated -->"
END = "<!-- results: end -->"


def render_results() -> str:
    """Two tables as Markdown: what a run takes, and what the studies measured."""
    runs = {lesson: find_results(lesson, "laptop") for lesson in SHOWN}
    runs = {lesson: run for lesson, run in runs.items() if run}
    machine = next(iter(runs.values())).machine
    where = (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['precision']}, "
        f"{machine['system']}"
    )
    lines = [
        f"| one CPU run, one seed ({where}) | reference → result, 95 % interval | minutes | "
        f"memory |"
    ]
    lines += ["|---|---|---|---|", *(_render_run(lesson, run) for lesson, run in runs.items())]
    minutes = sum(run.seconds for run in runs.values()) / 60
    most = max(run.peak_mb for run in runs.values())
    lines += [f"| all {len(runs)} | | {minutes:.0f} | at most {most / 1000:.1f} GB |", ""]
    lines += ["| study, 3 seeds | value | 95 % interval | n |", "|---|---|---|---|"]
    for lesson, shown in SHOWN.items():
        study = find_results(lesson, "study")
        if study is None:
            continue
        lines.append(f"| **{shown['title']}**: {shown['measure']} | | | |")
        for row in shown["rows"]:
            lines.append(_render_metric(study, row["words"], _name_metric(shown, row)))
    return "\n".join(lines)


def _render_run(lesson: str, run: Results) -> str:
    before, after = run.find_headline()
    change = (
        f"{run.headline[0]} {before.value:.3f} → {run.headline[1].system} {after}, n = {after.n:,}"
    )
    link = f"[{SHOWN[lesson]['title']}](notebooks/{lesson}.ipynb)"
    return f"| {link} | {change} | {run.seconds / 60:.1f} | {run.peak_mb / 1000:.1f} GB |"


def _name_metric(shown: dict, row: dict) -> MetricName:
    """The metric that a row shows; what the row does not say, its lesson says."""
    return MetricName(
        row["system"],
        row.get("metric", shown["metric"]),
        row.get("subset", shown.get("subset", "")),
        row.get("minus", ""),
    )


def _render_metric(study: Results, words: str, name: MetricName) -> str:
    metric = study.metrics[name]
    sign = "+" if _is_difference(name) else ""
    interval = f"{metric.low:{sign}.3f} to {metric.high:{sign}.3f}"
    return f"| {words} | {metric.value:{sign}.3f} | {interval} | {metric.n:,} |"


def _is_difference(name: MetricName) -> bool:
    return bool(name.minus) or name.metric.startswith("gain_") or name.metric.endswith("_change")


def draw_results(path: Path) -> None:
    """The studies' values with their intervals, a panel per lesson, as a picture."""
    figure = Figure(figsize=(8, 9), layout="constrained")
    for axis, (lesson, shown) in zip(
        figure.subplots(len(SHOWN), sharex=True), SHOWN.items(), strict=True
    ):
        study = read_results(lesson, "study")
        words = []
        values = []
        distances = []
        for row in shown["rows"]:
            name = _name_metric(shown, row)
            # a panel has one axis, for its lesson's metric
            if name.metric == shown["metric"] and not _is_difference(name):
                metric = study.metrics[name]
                words.append(row["words"])
                values.append(metric.value)
                distances.append([metric.value - metric.low, metric.high - metric.value])
        axis.errorbar(
            values, words, xerr=np.array(distances).T, fmt="o", color="#0b57a4", capsize=3
        )
        axis.set_title(f"{shown['title']}\n{shown['measure']}", loc="right", fontsize=9)
        axis.set(ylim=(len(words) - 0.5, -0.5), xlim=(0, 1.02))
        axis.grid(axis="x", color="#ddd")
    figure.savefig(path, dpi=110)


def update_readme() -> None:
    """Writes the tables between the two marks of README.md, and the picture above them."""
    draw_results(PICTURE)
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    README.write_text(f"{before}{START}\n{render_results()}\n{END}{after}", encoding="utf-8")

"""The README's tables of results and its pictures, generated from the published files.

Contract: what stands between the two marks is written here and by nobody's hand; `readme.toml` says
which numbers, under which words.
"""

import tomllib
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lessons_lib.evaluation.records import MetricName
from lessons_lib.paths import REPOSITORY
from lessons_lib.report.results import Results, find_results

README = REPOSITORY / "README.md"
PICTURE = REPOSITORY / "docs" / "static" / "results.png"
GROWTH = PICTURE.with_name("growth.png")
SHOWN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SPEED = SHOWN.pop("speed")
BENCHES = ("training", "decoder", "embedding")
FORMATS = ("bfloat16", "float32")  # that a kind of CPU is fast at
START = "<!-- results: generated -->"
END = "<!-- results: end -->"


def render_results() -> str:
    """Three tables as Markdown: what a run takes, what the studies measured, and speeds."""
    runs = {}
    studies = {}
    for lesson in SHOWN:
        run = find_results(lesson, "laptop")
        study = find_results(lesson, "study")
        if run:
            runs[lesson] = run
        if study:
            studies[lesson] = study
    return "\n".join([*_render_runs(runs), "", *_render_studies(studies), "", *_render_speeds()])


def _render_runs(runs: dict[str, Results]) -> list[str]:
    """A line per lesson; the machine stands in the heading, or in each line where they differ."""
    machines = {_describe_machine(run) for run in runs.values()}
    heading = f" ({machines.pop()})" if len(machines) == 1 else ""
    lines = [
        f"| one CPU run, one seed{heading} | reference → result, 95 % interval | minutes | "
        "memory |",
        "|---|---|---|---|",
    ]
    for lesson, run in runs.items():
        where = "" if heading else f" ({_describe_machine(run)})"
        lines.append(_render_run(lesson, run, where))
    minutes = sum(run.seconds for run in runs.values()) / 60
    most = max(run.peak_mb for run in runs.values())
    lines.append(f"| all {len(runs)} | | {minutes:.0f} | at most {most / 1000:.1f} GB |")
    return lines


def _describe_machine(run: Results) -> str:
    machine = run.machine
    return (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['precision']}, "
        f"{machine['system']}"
    )


def _render_studies(studies: dict[str, Results]) -> list[str]:
    """A line per metric that `readme.toml` names, under its lesson's heading."""
    seeds = {len(study.seeds) for study in studies.values()}
    number = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    lines = [f"| study, {number} seeds | value | 95 % interval | n |", "|---|---|---|---|"]
    for lesson, study in studies.items():
        shown = SHOWN[lesson]
        lines.append(f"| **{shown['title']}**: {shown['measure']} | | | |")
        for row in shown["rows"]:
            lines.append(_render_metric(study, row["words"], _name_metric(shown, row)))
    return lines


def _render_run(lesson: str, run: Results, where: str) -> str:
    before, after = run.find_headline()
    change = (
        f"{run.headline[0]} {before.value:.3f} → {run.headline[1].system} {after}, n = {after.n:,}"
    )
    link = f"[{SHOWN[lesson]['title']}](notebooks/{lesson}.ipynb)"
    return f"| {link}{where} | {change} | {run.seconds / 60:.1f} | {run.peak_mb / 1000:.1f} GB |"


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


def _render_speeds() -> list[str]:
    """A line per case of the benchmarks and kind of CPU: how fast, beside the plain library."""
    lines = [
        "| speed, medians of alternating rounds | CPU | plain library | this course | "
        "times as fast (range) |",
        "|---|---|---|---|---|",
    ]
    for bench in BENCHES:
        for number_format in FORMATS:
            results = find_results(f"{bench}_{number_format}", "bench")
            if results:
                lines += _render_bench(results)
    return lines


def _render_bench(results: Results) -> list[str]:
    """A line per case but the plain one."""
    machine = f"{results.machine['cpu']}, {results.machine['instructions']}"
    machine += ", bf16" if results.machine["precision"] == "bfloat16" else ""
    lines = []
    for name, times in results.metrics.items():
        if name.metric != "times_plain" or name.system == "plain":
            continue
        unit, words = next(
            (speed, speed.replace("_per_second", "/s"))
            for speed in ("passages_per_second", "rows_per_second", "tokens_per_second")
            if MetricName(name.system, speed, name.subset) in results.metrics
        )
        plain = results.find("plain", unit, subset=name.subset).value
        ours = results.find(name.system, unit, subset=name.subset).value
        case = SPEED.get(name.system, name.system)
        lines.append(
            f"| {SPEED[name.subset]}{case} | {machine} | {plain:,.1f} {words} | "
            f"{ours:,.1f} {words} | {times.value:.2f} ({times.low:.2f} to {times.high:.2f}) |"
        )
    return lines


def draw_growth(path: Path) -> None:
    """Cost against size, both as multiples of the smallest, a line for each thing that grows."""
    results = find_results("growth_bfloat16", "bench") or find_results("growth_float32", "bench")
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axis = figure.subplots()
    for what, words in SPEED["growth"].items():
        sizes = sorted(int(name.subset) for name in results.metrics if name.system == what)
        costs = [results.find(what, "cost", subset=str(size)).value for size in sizes]
        axis.plot(
            [size / sizes[0] for size in sizes],
            [cost / costs[0] for cost in costs],
            marker="o",
            label=f"{words}, from {sizes[0]:,}: {costs[0]:.2g} {SPEED['units'][what]}",
        )
    axis.plot([1, 8], [1, 8], color="0.5", linestyle="--", label="in proportion")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set(
        xlabel="size, as a multiple of the smallest",
        ylabel="cost, as a multiple of the smallest's",
    )
    axis.grid(color="#ddd")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def draw_results(path: Path) -> None:
    """The studies' values with their intervals, a panel per lesson, as a picture."""
    panels = {lesson: find_results(lesson, "study") for lesson in SHOWN}
    panels = {lesson: study for lesson, study in panels.items() if study}
    figure = Figure(figsize=(8, 1.8 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (lesson, study) in zip(axes, panels.items(), strict=True):
        shown = SHOWN[lesson]
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
    """Writes the tables between the two marks of README.md, and the pictures."""
    draw_results(PICTURE)
    draw_growth(GROWTH)
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    README.write_text(f"{before}{START}\n{render_results()}\n{END}{after}", encoding="utf-8")

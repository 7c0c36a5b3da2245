"""The README's table of results, generated from the published files.

Contract: what stands between the two marks is written here and by nobody's hand.
"""

from lessons_lib.ops.pairs import list_lessons
from lessons_lib.results import REPOSITORY, Results, find_results

README = REPOSITORY / "README.md"
SHOWN = (  # noqa: SIM905 - one a line would fill a page
    "accuracy macro_f1 agreement choice_trained choice_untrained choice_blind choice_general relative_trained"
    " token_f1 stop_rate gain_trained gain_untrained gain_general general_loss_change choice reworded blind"
).split()
START, END = "<!-- results: generated -->", "<!-- results: end -->"


def render_results() -> str:
    """The measured tables as Markdown: a lesson's laptop run, and its study."""
    parts = []
    for lesson in list_lessons():
        laptop, study = find_results(lesson.stem, "laptop"), find_results(lesson.stem, "study")
        if laptop:
            before, after = (laptop.metrics[name] for name in laptop.headline)
            parts.append(
                f"**{lesson.stem}**, laptop profile: {laptop.headline[0]} {before.value:.3f} → "
                f"{laptop.headline[1]} {after} (n = {after.n:,}, one seed); {laptop.seconds:.0f} s, "
                f"{laptop.peak_rss_mb / 1000:.1f} GB on {laptop.machine['cpu']}, "
                f"{laptop.machine['threads']} threads, {laptop.machine['precision']}."
            )
        if study:
            parts.append(_render_study(study))
    return "\n\n".join(parts)


def _render_study(study: Results) -> str:
    lines = [f"| study, {len(study.seeds)} seeds | value | 95 % interval | n |", "|---|---|---|---|"]
    rows = []
    for name, metric in study.metrics.items():
        system, _, kind = name.rpartition(".")
        if kind in SHOWN and not name.startswith("sweep_"):
            difference = "_minus_" in system or kind.startswith("gain") or kind.endswith("change")
            title = f"`{name.removesuffix('.accuracy')}`".replace("_minus_", "` − `")
            rank = ("_minus_" in system, SHOWN.index(kind), title if difference else -metric.value)
            sign = "+" if difference else ""
            interval = f"{metric.low:{sign}.3f} to {metric.high:{sign}.3f}"
            rows.append((rank, f"| {title} | {metric.value:{sign}.3f} | {interval} | {metric.n:,} |"))
    return "\n".join(lines + [line for _, line in sorted(rows)])


def update_readme() -> None:
    """Writes the tables between the two marks of README.md."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    README.write_text(f"{before}{START}\n{render_results()}\n{END}{after}", encoding="utf-8")

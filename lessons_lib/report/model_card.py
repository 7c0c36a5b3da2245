"""The card that is saved beside an adapter."""

from importlib.metadata import version
from pathlib import Path

from lessons_lib.evaluation.records import Metrics
from lessons_lib.report.results import VERSIONS

CARD = Path(__file__).with_name("card.md")


def write_card(folder: Path, *, base: str, data: str, licence: str, metrics: Metrics) -> Path:
    """A model card (README.md) for the adapter in `folder`: what it belongs to, what it learned
    from, under which licence, and what was measured."""
    rows = "\n".join(f"| {name} | {metric} | {metric.n} |" for name, metric in metrics.items())
    made = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    text = CARD.read_text(encoding="utf-8").format(
        base=base, data=data, licence=licence, made=made, rows=rows
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return folder / "README.md"

"""One look for every progress bar: plain text on standard output, so that notebooks store one clean line."""

import sys

from tqdm import tqdm


def progress_bar(total: int, label: str, unit: str, disable: bool = False) -> tqdm:
    """A tqdm bar of `total` units, updated once a second."""
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        file=sys.stdout,
        mininterval=1,
        ascii=" ━",
        bar_format="{desc}: {percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt} [{elapsed}]{postfix}",
        disable=disable,
    )

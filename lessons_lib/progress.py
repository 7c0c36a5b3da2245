"""Displays of progress: bars in notebooks, and a line on the terminal that is overwritten.

Contract: plain text on standard output, so that notebooks store one clean line and logs stay
readable.
"""

import shutil
import sys
import time
from typing import TextIO

from tqdm import tqdm

WIDTH = 100  # columns of a bar in a notebook or a log
ROWS = 20  # most bars that are drawn at once
PLAIN_SECONDS = 30  # between two lines where a line cannot be overwritten


def progress_bar(total: int, label: str, unit: str, disable: bool = False) -> tqdm:
    """A tqdm bar of `total` units, updated once per second, with the time taken and the time left.

    Its width is that of the terminal it is drawn on, else WIDTH: tqdm would use the terminal that a
    notebook's kernel was started from, and draw nothing if that has no size.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    return tqdm(
        total=total,
        ncols=width,
        nrows=ROWS,
        desc=label,
        unit=unit,
        file=sys.stdout,
        mininterval=1,
        ascii=" ━",
        bar_format="{desc}: {percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}]{postfix}",
        disable=disable,
    )


class StatusLine:
    """One line that shows the current state of a run.

    On a terminal it is overwritten. Elsewhere, such as in a log, a new line is printed every
    PLAIN_SECONDS.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.width = 0  # characters on the line now
        self.printed_at = time.monotonic()

    def show(self, text: str) -> None:
        """Replaces the line by `text`, cut to the terminal's width."""
        if not self.stream.isatty():
            self._print_now_and_then(text)
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        self.stream.write("\r" + text.ljust(self.width))
        self.stream.flush()
        self.width = len(text)

    def close(self) -> None:
        """Ends the line, so that the next output begins on a new one."""
        if self.width:
            self.stream.write("\n")
            self.stream.flush()
        self.width = 0

    def _print_now_and_then(self, text: str) -> None:
        if time.monotonic() - self.printed_at < PLAIN_SECONDS:
            return
        self.printed_at = time.monotonic()
        self.stream.write(text + "\n")
        self.stream.flush()

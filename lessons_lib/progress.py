"""One look for all that shows progress: bars in notebooks, and a line on the terminal that is
written over.

Contract: plain text on standard output, so that notebooks store one clean line and logs stay
readable.
"""

import shutil
import sys
import time
from typing import TextIO

from tqdm import tqdm

PLAIN_SECONDS = 30  # between two lines where a line cannot be written over


def progress_bar(total: int, label: str, unit: str, disable: bool = False) -> tqdm:
    """A tqdm bar of `total` units, updated once a second, with the time taken and the time left."""
    return tqdm(
        total=total,
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
    """One line that says what is going on.

    On a terminal it is written over. Elsewhere, such as in a log, it is printed anew every
    PLAIN_SECONDS.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.width = 0  # of what stands on the line now
        self.printed_at = time.monotonic()

    def show(self, text: str) -> None:
        """Replaces the line; what does not fit into the terminal is left out."""
        if not self.stream.isatty():
            self._print_now_and_then(text)
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        self.stream.write("\r" + text.ljust(self.width))
        self.stream.flush()
        self.width = len(text)

    def close(self) -> None:
        """Ends the line, so that what is printed next begins on a new one."""
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

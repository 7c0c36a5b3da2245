"""Opens the lessons in JupyterLab, on a machine made ready by `course/console.py`.

python -m lessons_lib.course.lab --port=8889        # options are JupyterLab's own
"""

import os
import sys

from lessons_lib.course.console import prepare_process
from lessons_lib.errors import CourseError
from lessons_lib.paths import NOTEBOOKS


def main() -> None:
    """Replaces this process by JupyterLab."""
    try:
        prepare_process()
    except CourseError as error:
        sys.exit(str(error))
    command = [sys.executable, "-m", "jupyterlab", str(NOTEBOOKS), *sys.argv[1:]]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()

"""Opens the lessons in JupyterLab, on a machine made ready by `course/console.py`.

python -m lessons_lib.course.lab --port=8889        # options are JupyterLab's own
"""

import os
import sys

from lessons_lib.course.colab import REPOSITORY
from lessons_lib.course.console import prepare_process
from lessons_lib.errors import CourseError


def main() -> None:
    """Becomes JupyterLab."""
    try:
        prepare_process()
    except CourseError as error:
        sys.exit(str(error))
    notebooks = str(REPOSITORY / "notebooks")
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", notebooks, *sys.argv[1:]])


if __name__ == "__main__":
    main()

"""The command line, a thin door to `ops/`: python -m lessons_lib course | notebooks | study."""

import argparse
import sys

from lessons_lib.assets import AssetError
from lessons_lib.data import DataError
from lessons_lib.models import ModelError, quiet_libraries
from lessons_lib.ops.readme import update_readme
from lessons_lib.ops.runner import LessonError, run_course
from lessons_lib.ops.study import run_study


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lessons_lib", description=__doc__)
    parser.add_argument("command", choices=("course", "notebooks", "study"))
    parser.add_argument("--lesson", default="", help="the number of one lesson, such as 04; default: all")
    parser.add_argument(
        "--data", default="", help="a file or folder of your own instead of the lesson's data"
    )
    options = parser.parse_args(arguments)
    quiet_libraries()
    try:
        if options.command == "study":
            run_study(options.lesson)
        else:
            run_course(options.lesson, options.data, publish=options.command == "notebooks")
        if options.command != "course":
            update_readme()
    except (AssetError, DataError, LessonError, ModelError, OSError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; what was finished stays in build/.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

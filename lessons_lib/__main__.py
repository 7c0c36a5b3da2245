"""The command line, a thin door to `ops/`: python -m lessons_lib course | notebooks | study | finetune |
release | grade."""

import argparse
import sys
from pathlib import Path

from lessons_lib.assets import AssetError
from lessons_lib.data import DataError
from lessons_lib.models import ModelError, quiet_libraries
from lessons_lib.ops import finetune
from lessons_lib.ops.readme import update_readme
from lessons_lib.ops.runner import BUILD, LessonError, run_course
from lessons_lib.ops.sandbox import SandboxError
from lessons_lib.studies.study import run_study


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parse(arguments)
    quiet_libraries()
    try:
        if options.command == "finetune":
            finetune.run_finetune(options)
        elif options.command == "study":
            run_study(options.lesson)
        elif options.command == "release":
            from lessons_lib.ops.assignments import write_release  # nbgrader is slow to import

            write_release()
        elif options.command == "grade":
            from lessons_lib.ops.grading import grade_folder

            grade_folder(options.submissions, options.grades, unsafe=options.unsafe)
        else:
            run_course(options.lesson, options.data, publish=options.command == "notebooks")
        if options.command in ("notebooks", "study"):
            update_readme()
    except (AssetError, DataError, LessonError, ModelError, SandboxError, OSError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        remedy = "; --resume goes on from there" if options.command == "finetune" else ""
        print(f"\nInterrupted; what was finished stays{remedy}.", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lessons_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("course", "notebooks", "study"):
        command = commands.add_parser(name)
        command.add_argument(
            "--lesson", default="", help="the number of one lesson, such as 04; default: all"
        )
        command.add_argument(
            "--data", default="", help="a file or folder of your own instead of the lesson's"
        )
    commands.add_parser("release", help="write the student version of the assignments")
    grade = commands.add_parser("grade", help="grade a folder of notebooks")
    grade.add_argument("submissions", type=Path, help="a folder with one notebook a student, or one notebook")
    grade.add_argument("--grades", type=Path, default=BUILD / "grades", help="where scores and pages go")
    grade.add_argument("--unsafe", action="store_true", help="run students' code without a sandbox")
    finetune.add_options(commands.add_parser("finetune", help="teach a model the facts of a JSON file"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

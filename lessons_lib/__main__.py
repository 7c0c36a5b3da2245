"""The command line: its commands call `course/`, `grading/` and `studies/`.

Each command imports what it needs itself, as some modules take seconds to import. `doctor` must run
even where they cannot be imported.
"""

import argparse
import errno
import os
import sys
from pathlib import Path

from lessons_lib.course.console import prepare_process
from lessons_lib.errors import CourseError
from lessons_lib.paths import BUILD

# errors of the operating system, and the remedy for each
MENDABLE = {
    errno.EACCES: "write to a folder of your own, or change its rights.",
    errno.EPERM: "write to a folder of your own, or change its rights.",
    errno.EROFS: "write to a disk that is not read-only.",
    errno.ENOSPC: "free some space; LESSONS_CACHE and TMPDIR move the largest files elsewhere.",
    errno.EDQUOT: "free some space; LESSONS_CACHE and TMPDIR move the largest files elsewhere.",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        prepare_process()
        options = _parse(arguments)
        return options.run(options) or 0
    except CourseError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reading program has ended, as in `make course | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in MENDABLE:
            raise  # a bug of the course: its traceback says where
        mendable = CourseError(f"{error}.", remedy=MENDABLE[error.errno])
        print(f"\n{mendable}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        is_resumable = "finetune" in (arguments or sys.argv[1:])[:1]
        remedy = "; --resume goes on from there" if is_resumable else ""
        print(f"\nInterrupted; what was finished stays{remedy}.", file=sys.stderr)
        return 130


def _course(options: argparse.Namespace) -> None:
    from lessons_lib.course.readme import update_readme
    from lessons_lib.course.run import run_course
    from lessons_lib.models.load import quiet_libraries

    quiet_libraries()
    publish = options.command == "notebooks"
    run_course(
        options.lesson, options.data, start=options.start, labels=options.labels, publish=publish
    )
    if publish:
        update_readme()


def _study(options: argparse.Namespace) -> None:
    from lessons_lib.course.readme import update_readme
    from lessons_lib.models.load import quiet_libraries
    from lessons_lib.studies.study import run_study

    quiet_libraries()
    run_study(options.lesson)
    update_readme()


def _finetune(options: argparse.Namespace) -> None:
    from lessons_lib.course import finetune
    from lessons_lib.models.load import quiet_libraries

    quiet_libraries()
    finetune.run_finetune(options)


def _stale(_: argparse.Namespace) -> None:
    from lessons_lib.report.provenance import print_changes

    print_changes()


def _release(_: argparse.Namespace) -> None:
    from lessons_lib.grading.assignments import write_release

    write_release()


def _grade(options: argparse.Namespace) -> None:
    from lessons_lib.grading.grade import grade_folder

    grade_folder(options.submissions, options.grades, unsafe=options.unsafe)


def _badges(options: argparse.Namespace) -> None:
    from lessons_lib.course.repo_address import write_badges

    changed = write_badges(options.address)
    print("\n".join(map(str, changed)) or "Nothing to change.")


def _doctor(options: argparse.Namespace) -> int:
    from lessons_lib.course.doctor import run_doctor

    return run_doctor(options.profile, options.json)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lessons_lib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = {
        "course": (_course, "run the lessons"),
        "notebooks": (_course, "run the lessons and publish"),
        "study": (_study, "the long runs behind the claims"),
    }
    for name, (run, what) in runs.items():
        command = commands.add_parser(name, help=what)
        command.set_defaults(run=run)
        command.add_argument(
            "--lesson", default="", help="the number of one lesson, such as 04; default: all"
        )
        if name == "study":
            continue
        command.add_argument(
            "--from", dest="start", default="", help="the number of the first lesson to run"
        )
        command.add_argument("--data", default="", help="a file or folder of your own")
        command.add_argument(
            "--labels", default="", help='what its labels mean, such as "1=negative,2=positive"'
        )
    commands.add_parser(
        "release", help="write the student version of the assignments"
    ).set_defaults(run=_release)
    stale = commands.add_parser(
        "stale", help="what has changed since the published numbers were measured"
    )
    stale.set_defaults(run=_stale)
    grade = commands.add_parser("grade", help="grade a folder of notebooks")
    grade.set_defaults(run=_grade)
    grade.add_argument(
        "submissions", type=Path, help="a folder with one notebook per student, or one notebook"
    )
    grade.add_argument(
        "--grades",
        type=Path,
        default=BUILD / "grades",
        help="where scores and pages go",
    )
    grade.add_argument("--unsafe", action="store_true", help="run students' code without a sandbox")
    badges = commands.add_parser("badges", help="write the repository's address wherever it occurs")
    badges.set_defaults(run=_badges)
    badges.add_argument("address", help="owner/name")
    doctor = commands.add_parser("doctor", help="what this machine can run, and remedies")
    doctor.set_defaults(run=_doctor)
    doctor.add_argument(
        "--profile", choices=("laptop", "gpu"), default="laptop", help="decides the exit code"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    finetune = commands.add_parser("finetune", help="teach a model the facts of a JSON file")
    finetune.set_defaults(run=_finetune)
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["finetune"]:
        _add_finetune_options(finetune)
    return parser.parse_args(arguments)


def _add_finetune_options(parser: argparse.ArgumentParser) -> None:
    from lessons_lib.training.conversations import TOO_LONG
    from lessons_lib.training.recipe import FACTS, QUANTIZERS
    from lessons_lib.training.tracking import TRACKERS

    add = parser.add_argument
    add(
        "--data",
        required=True,
        help="a JSON, JSONL, CSV, TSV or Parquet file: term/definition, question/answer, "
        "messages, …",
    )
    add(
        "--model",
        default="",
        help='a folder, a Hub name or "packaged:SmolLM2-135M-Instruct" (default)',
    )
    add(
        "--quantize",
        choices=tuple(QUANTIZERS),
        default=FACTS.quantize,
        help="how frozen weights are kept",
    )
    add(
        "--repeats",
        type=int,
        default=5,
        help="how often each fact is met, in another phrasing each time",
    )
    add("--learning-rate", type=float, default=FACTS.learning_rate)
    add(
        "--batch-size", type=int, default=FACTS.batch_size, help="rows per step, over all processes"
    )
    add("--rank", type=int, default=FACTS.rank, help="LoRA's rank; alpha is twice that")
    add(
        "--max-tokens",
        type=int,
        default=512,
        help="the longest example allowed; longer ones are never cut",
    )
    add("--too-long", choices=TOO_LONG, default="error", help="what happens to longer examples")
    add("--seed", type=int, default=0)
    add(
        "--output",
        default="",
        help="folder for adapter and checkpoints; default: build/finetune/<file>",
    )
    add("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    add("--report-to", choices=TRACKERS, default="none")
    add("--ask", default="", help="a question to answer at the end, without and with the adapter")


if __name__ == "__main__":
    sys.exit(main())

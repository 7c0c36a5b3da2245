"""Runs a student's code where it can do no harm, and calls their functions from outside.

Covered, each by a test: files (only Python and its packages can be seen, read-only; what the
student writes lies in memory, is limited, and goes), the network (there is none), the environment
(empty), rights (none, nor a way to mount), processes and memory (counted, and the sandbox ended
above the limits), time (of a cell, a call and a submission), the size of answers; output is thrown
away. What the code says is data: numbers, texts, lists, dicts, arrays.

Not covered: faults of the Linux kernel and of bubblewrap, and the kernel's keyring; memory in files
without a name; handed-in notebooks that lie below a system's folder such as /usr; a student whose
error messages repeat the inputs of hidden tests (each submission has its own); the load of up to a
second before a fork bomb or memory bomb is ended, and what it does to the seconds of others.
Without bubblewrap, `unsafe=True` runs the code as an ordinary process, with none of this but the
limits of time, memory and processes.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from lessons_lib.errors import CourseError
from lessons_lib.grading import worker
from lessons_lib.paths import REPOSITORY

# seconds
START = 60
CELL = 10
CALL = 5
SUBMISSION = 120
# of a submission; bytes
PROCESSES = 32
MEMORY = 2 * worker.GIGABYTE
DISK = worker.GIGABYTE // 8
THREADS = 128
ANSWER = 2**14  # bytes: so that nothing which is done with an answer takes long
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
ENVIRONMENT = {
    "HOME": "/home/student",
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
    "LESSONS_PROFILE": "smoke",
}
REMEDY = (
    "on Linux `apt install bubblewrap` (or your system's package); or UNSAFE=1, which runs "
    "students' code with your rights: only in a container that holds nothing else."
)


class SandboxError(CourseError):
    """The sandbox does not work here."""


class StudentError(RuntimeError):
    """The student's code raised, ended its process, took too long, or answered what nobody can
    read.
    """


class StudentValueError(StudentError, ValueError):
    """The student's code raised a ValueError, which an exercise may ask for."""


def check_sandbox() -> None:
    """SandboxError with a remedy where bubblewrap is missing, or cannot run Python isolated."""
    if not shutil.which("bwrap"):
        raise SandboxError("grading needs bubblewrap, which is not installed.", remedy=REMEDY)
    with Sandbox([]) as box:
        box.start()


def isolate() -> list[str]:
    """bubblewrap's command line. What is bound last is seen: Python may live below /tmp."""
    command = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    command += [
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for place in ("/dev/shm", "/tmp", "/home/student"):
        command += ["--size", str(DISK), "--tmpfs", place]
    for place in dict.fromkeys([*SYSTEM, sys.base_prefix]):
        if Path(place).exists():
            command += ["--ro-bind", str(Path(place).resolve()), place]
        if REPOSITORY.is_relative_to(place):  # a clone below /usr, say
            command += ["--tmpfs", str(REPOSITORY)]
    command += ["--ro-bind", str(Path(sys.prefix).resolve()), sys.prefix]
    command += ["--ro-bind", worker.__file__, "/home/worker.py"]
    command += ["--remount-ro", "/", "--remount-ro", "/dev"]
    command += [part for item in ENVIRONMENT.items() for part in ("--setenv", *item)]
    return [*command, "--chdir", "/home/student", sys.executable, "/home/worker.py"]


class Sandbox:
    """A student's process, started at the first call and again after it died: then the cell that
    ended it is left out. `preload` names modules that are imported before time is counted. Close
    it, or use a `with`."""

    def __init__(
        self, cells: list[str], preload: tuple[str, ...] = (), unsafe: bool = False
    ) -> None:
        self.cells = cells
        self.preload = preload
        self.unsafe = unsafe
        self.skipped: set[int] = set()
        self.ends = time.monotonic() + SUBMISSION
        self.process: subprocess.Popen | None = None
        self.unread = b""
        self.why_ended = ""

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, *args: object, **kwargs: object) -> object:
        """What the student's function returns. StudentError says what went wrong."""
        self.start()
        request = {"call": name, "args": worker.pack(list(args)), "kwargs": worker.pack(kwargs)}
        return self.ask(request, CALL)

    def start(self) -> None:
        """Sees to a process that has run every cell which does not end it."""
        while not self.process:
            self.launch()
            for number, cell in enumerate(self.cells):
                if number in self.skipped:
                    continue
                # the functions of other cells count all the same
                with contextlib.suppress(StudentError):
                    self.ask({"run": cell}, CELL)
                if not self.process:
                    self.skipped.add(number)
                    break

    def launch(self) -> None:
        """Starts the process and waits until it is ready. SandboxError where it never is."""
        if time.monotonic() > self.ends:
            raise StudentError(f"the submission's {SUBMISSION} s are used up")
        self.home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [sys.executable, worker.__file__] if self.unsafe else isolate()
        started = self.process = subprocess.Popen(
            [*command, *self.preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # bubblewrap's: the student's is closed
            env={**ENVIRONMENT, "HOME": self.home.name, "PATH": os.environ.get("PATH", "")},
            cwd=self.home.name,
            start_new_session=True,
        )
        self.unread = b""
        self.why_ended = ""
        os.set_blocking(self.process.stdout.fileno(), False)
        try:
            threading.Thread(target=self.watch, args=[self.process], daemon=True).start()
            self.read(START)
        except RuntimeError as problem:
            # no thread to be had, or StudentError: it is not the student's yet
            self.close()
            said = (
                make_printable(started.stderr.read(1000).decode(errors="replace").strip())
                or problem
            )
            raise SandboxError(f"the sandbox does not start here: {said}", remedy=REMEDY) from None

    def watch(self, process: subprocess.Popen) -> None:
        """Ends the process when it has too many children, too much memory, or too little time."""
        while process.poll() is None:
            family = list_children(process)
            threads, memory = (
                sum(each) for each in zip((0, 0), *map(measure_process, family), strict=True)
            )
            if len(family) > PROCESSES:
                self.why_ended = f"more than {PROCESSES} processes"
            elif threads > THREADS:
                self.why_ended = f"more than {THREADS} threads"
            elif memory > MEMORY:
                self.why_ended = f"more than {MEMORY / worker.GIGABYTE:g} GB of memory"
            if self.why_ended or time.monotonic() > self.ends + START:
                end(process)
            time.sleep(0.1)

    def ask(self, request: dict, limit: float) -> object:
        """The answer to one request. StudentError, and no process any more where it died."""
        if time.monotonic() > self.ends:
            self.fail(f"the submission's {SUBMISSION} s are used up")
        try:
            self.process.stdin.write(json.dumps({**request, "limit": limit}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            self.fail("your code ended the process")
        reply = self.read(limit + 2)
        if "error" in reply:
            kind = StudentValueError if reply.get("kind") == "ValueError" else StudentError
            raise kind(make_printable(str(reply["error"])))
        return reply["value"]

    def read(self, limit: float) -> dict:
        """The next line of the process, read as data."""
        until = time.monotonic() + limit
        stream = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            if not select.select([stream], [], [], max(0, until - time.monotonic()))[0]:
                self.fail(f"no answer within {limit - 2:g} s")
            try:
                part = os.read(stream, 2**16)
            except OSError:  # the student reads along
                part = b""
            if not part:
                self.fail("your code ended the process")
            self.unread += part
            if len(self.unread) > ANSWER:
                self.fail(f"an answer of more than {ANSWER // 2**10} kB")
        line, _, self.unread = self.unread.partition(b"\n")
        try:
            reply = dict(json.loads(line))
            return reply if "error" in reply else {"value": worker.unpack(reply["value"])}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError):
            self.fail("an answer that cannot be read")

    def fail(self, why: str) -> None:
        """Ends the process; raises StudentError."""
        time.sleep(0.2)  # whoever ended it may be about to say why
        why = self.why_ended or why
        self.close()
        raise StudentError(why)

    def close(self) -> None:
        """Ends the process, and everything that it started."""
        process = self.process
        self.process = None
        if process:
            end(process)
            with contextlib.suppress(OSError):  # what was not yet sent is lost
                process.stdin.close()
            process.stdout.close()
            self.home.cleanup()


def make_printable(text: str, longest: int = 300) -> str:
    """A text that can be written to any file, cut."""
    return text.encode("utf-8", "backslashreplace").decode()[:longest]


def list_children(process: subprocess.Popen) -> list[psutil.Process]:
    """What a process started, and what that started; none where it has ended."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except (psutil.Error, OSError):
        return []


def measure_process(process: psutil.Process) -> tuple[int, int]:
    """Threads and bytes that a process holds; none where it has ended, which must not hide the
    others'.
    """
    try:
        return process.num_threads(), process.memory_info().rss
    except (psutil.Error, OSError):
        return 0, 0


def end(process: subprocess.Popen) -> None:
    """Kills a process and its children; inside bubblewrap nothing outlives it."""
    for member in [process, *list_children(process)]:
        with contextlib.suppress(psutil.Error, OSError):
            member.kill()
    process.wait()

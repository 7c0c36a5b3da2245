"""Runs a student's code where it can do no harm, and calls their functions from outside.

Covered, each by a test:
- files: only Python and its packages are visible, read-only; what the student writes is kept in
  memory, limited in size, and deleted
- the network: there is none
- the environment: it is empty
- rights: the code has none, and cannot mount anything
- processes and memory: they are counted, and the sandbox is ended above the limits
- time: of a cell, of a call and of a submission
- answers: their size is limited, and they are data: numbers, texts, lists, dicts, arrays
- printed output: it is discarded

Not covered:
- faults of the Linux kernel and of bubblewrap, and the kernel's keyring
- memory in files without a name
- submissions in a folder of the system, such as /usr
- error messages that repeat the inputs of hidden tests; each submission has its own inputs
- the load of up to a second before a fork bomb or memory bomb is ended, which may cost other
  submissions time

Without bubblewrap, `unsafe=True` runs the code as an ordinary process. Of the above, only the
limits of time, memory and processes remain.
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
# limits of a submission; memory and disk in bytes
PROCESSES = 32
MEMORY = 2 * worker.GIGABYTE
DISK = worker.GIGABYTE // 8
THREADS = 128
ANSWER = 2**14  # bytes; small enough for any processing of an answer to be fast
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
    """The student's code raised an error, ended its process, took too long, or gave an answer that
    cannot be read.
    """


class StudentValueError(StudentError, ValueError):
    """The student's code raised a ValueError, which an exercise may require."""


def check_sandbox() -> None:
    """Raises SandboxError, with a remedy, if bubblewrap is missing or cannot run Python."""
    if not shutil.which("bwrap"):
        raise SandboxError("grading needs bubblewrap, which is not installed.", remedy=REMEDY)
    with Sandbox([]) as box:
        box.start()


def isolate() -> list[str]:
    """bubblewrap's command line. Later mounts hide earlier ones, so Python is bound after /tmp: it
    may be below it.
    """
    command = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    command += ["--uid", "1000", "--gid", "1000"]
    command += ["--die-with-parent", "--new-session", "--clearenv"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", "/home/student"):
        command += ["--size", str(DISK), "--tmpfs", folder]
    for path in dict.fromkeys([*SYSTEM, sys.base_prefix]):
        if Path(path).exists():
            command += ["--ro-bind", str(Path(path).resolve()), path]
        if REPOSITORY.is_relative_to(path):  # such as a clone below /usr
            command += ["--tmpfs", str(REPOSITORY)]
    command += ["--ro-bind", str(Path(sys.prefix).resolve()), sys.prefix]
    command += ["--ro-bind", worker.__file__, "/home/worker.py"]
    command += ["--remount-ro", "/", "--remount-ro", "/dev"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    return [*command, "--chdir", "/home/student", sys.executable, "/home/worker.py"]


class Sandbox:
    """A student's process. It starts at the first call, and again after it died; then the cell that
    ended it is left out.

    preload: modules that are imported before time is counted. unsafe: without bubblewrap. Close it,
    or use it in a `with`.
    """

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
        """What the student's function returns. Raises StudentError if it gives no answer."""
        self.start()
        request = {"call": name, "args": worker.pack(list(args)), "kwargs": worker.pack(kwargs)}
        return self.ask(request, CALL)

    def start(self) -> None:
        """Starts the process, unless it runs, and runs every cell that does not end it."""
        while not self.process:
            self.launch()
            for number, cell in enumerate(self.cells):
                if number in self.skipped:
                    continue
                # a cell that fails does not stop the others
                with contextlib.suppress(StudentError):
                    self.ask({"run": cell}, CELL)
                if not self.process:
                    self.skipped.add(number)
                    break

    def launch(self) -> None:
        """Starts the process and waits until it is ready. Raises SandboxError if it never is."""
        if time.monotonic() > self.ends:
            raise StudentError(f"the submission's {SUBMISSION} s are used up")
        self.home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [sys.executable, worker.__file__] if self.unsafe else isolate()
        process = subprocess.Popen(
            [*command, *self.preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # bubblewrap's: the student's is closed
            env={**ENVIRONMENT, "HOME": self.home.name, "PATH": os.environ.get("PATH", "")},
            cwd=self.home.name,
            start_new_session=True,
        )
        self.process = process
        self.unread = b""
        self.why_ended = ""
        os.set_blocking(process.stdout.fileno(), False)
        try:
            threading.Thread(target=self.watch, args=[process], daemon=True).start()
            self.read(START)
        except RuntimeError as problem:
            # no new thread, or a StudentError, although no code of the student has run yet
            self.close()
            message = process.stderr.read(1000).decode(errors="replace").strip()
            reason = make_printable(message) or problem
            raise SandboxError(
                f"the sandbox does not start here: {reason}", remedy=REMEDY
            ) from None

    def watch(self, process: subprocess.Popen) -> None:
        """Ends the process above the limits of processes, threads, memory and time."""
        while process.poll() is None:
            children = list_children(process)
            threads = 0
            memory = 0
            for child in children:
                child_threads, child_memory = measure_process(child)
                threads += child_threads
                memory += child_memory
            if len(children) > PROCESSES:
                self.why_ended = f"more than {PROCESSES} processes"
            elif threads > THREADS:
                self.why_ended = f"more than {THREADS} threads"
            elif memory > MEMORY:
                self.why_ended = f"more than {MEMORY / worker.GIGABYTE:g} GB of memory"
            if self.why_ended or time.monotonic() > self.ends + START:
                end(process)
            time.sleep(0.1)

    def ask(self, request: dict, limit: float) -> object:
        """The answer to one request. Raises StudentError; `process` is None if it has died."""
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
        """The next reply of the process, read as data."""
        until = time.monotonic() + limit
        stream = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            if not select.select([stream], [], [], max(0, until - time.monotonic()))[0]:
                self.fail(f"no answer within {limit - 2:g} s")
            try:
                part = os.read(stream, 2**16)
            except OSError:  # the student's code reads the same pipe
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
        time.sleep(0.2)  # `watch` may be about to set why_ended
        why = self.why_ended or why
        self.close()
        raise StudentError(why)

    def close(self) -> None:
        """Ends the process and all processes that it started."""
        process = self.process
        self.process = None
        if process:
            end(process)
            with contextlib.suppress(OSError):  # requests that were not sent yet are lost
                process.stdin.close()
            process.stdout.close()
            self.home.cleanup()


def make_printable(text: str, longest: int = 300) -> str:
    """The beginning of a text, with signs that UTF-8 cannot encode spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()[:longest]


def list_children(process: subprocess.Popen) -> list[psutil.Process]:
    """The children of a process and their children; none if it has ended."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except (psutil.Error, OSError):
        return []


def measure_process(process: psutil.Process) -> tuple[int, int]:
    """A process's number of threads and its bytes of memory; (0, 0) if it has ended."""
    try:
        return process.num_threads(), process.memory_info().rss
    except (psutil.Error, OSError):
        return 0, 0


def end(process: subprocess.Popen) -> None:
    """Kills a process and its children; bubblewrap ends all other processes inside it."""
    for member in [process, *list_children(process)]:
        with contextlib.suppress(psutil.Error, OSError):
            member.kill()
    process.wait()

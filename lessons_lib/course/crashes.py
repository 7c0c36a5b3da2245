"""Why a process ended, derived from its exit code: a processor without AVX2, too little memory, a
crash.

Contract: it uses the standard library alone, which cannot crash here. The doctor and the runner
call it after a package has ended its process. It never raises.
"""

import platform
import re
import signal
from pathlib import Path

# instructions that torch, faiss and others use without a check, by their names in /proc/cpuinfo
WANTED = {"sse4_2": "SSE4.2", "avx": "AVX", "f16c": "F16C", "fma": "FMA", "avx2": "AVX2"}
PROCESSOR_REMEDY = (
    "on a virtual machine, choose the host's own processor (KVM: CPU type host); else run the "
    "course on another machine, or in Colab."
)
MEMORY_REMEDY = (
    "close other programs, or ask for more memory; WSL: memory=6GB below [wsl2] in .wslconfig; "
    "lesson 04 needs least."
)
LIBRARY_REMEDY = "make doctor names the package; rm -rf .venv && make setup installs it anew."
ENDED_REMEDY = (
    "read what it printed last, and take exit() out of the code; make doctor looks for the rest."
)
OUTSIDE_REMEDY = "start it again; on a cluster, ask for more time."
# what happened and what to do, by the signal's name, because systems differ in their signals
SIGNALS = {
    "SIGSEGV": ("a package's native code crashed", LIBRARY_REMEDY),
    "SIGABRT": ("a package's native code gave up", LIBRARY_REMEDY),
    "SIGFPE": ("a package's native code divided by zero", LIBRARY_REMEDY),
    "SIGBUS": (
        "memory that it had been given was not there: a full disk, or a small /dev/shm",
        "free some space; in a container, docker run --shm-size=2g.",
    ),
    "SIGSYS": ("the system forbade a call", "run it outside the sandbox or container."),
    "SIGXCPU": ("its time on the processor was used up", "ask for more time (ulimit -t)."),
    "SIGXFSZ": ("a file grew beyond what is allowed", "allow larger files (ulimit -f)."),
    "SIGTERM": (
        "something outside ended it, as a cluster does when the time is up",
        OUTSIDE_REMEDY,
    ),
    "SIGHUP": ("its terminal was closed", "start it again, in tmux or with nohup."),
    "SIGINT": ("it was interrupted", "start it again."),
}
# exit codes of Windows, and the signals that they correspond to
WINDOWS = {
    0xC000001D: "SIGILL",
    0xC0000005: "SIGSEGV",
    0xC0000017: "SIGKILL",
    0xC00000FD: "SIGSEGV",
}


def explain_death(returncode: int | None) -> tuple[str, str]:
    """What ended a process, and the remedy. returncode: its exit code, None if unknown.

    A signal has the code −signal from `subprocess` and 128 + signal from a shell.

    >>> explain_death(-11)[0]
    "SIGSEGV: a package's native code crashed"
    """
    name = name_signal(returncode)
    if name == "SIGILL":
        return f"SIGILL, an illegal instruction: {describe_processor()}", PROCESSOR_REMEDY
    if name == "SIGKILL" or returncode is None:
        signal_name = "SIGKILL" if name else "it ended without a word"
        return f"{signal_name}: most likely out of memory ({describe_memory()})", MEMORY_REMEDY
    if name in SIGNALS:
        what, remedy = SIGNALS[name]
        return f"{name}: {what}", remedy
    if name:
        return f"{name}: a signal ended it", OUTSIDE_REMEDY
    return f"it ended itself, with exit code {returncode}", ENDED_REMEDY


def name_signal(returncode: int | None) -> str:
    """The signal behind an exit code, such as "SIGILL"; "" where there is none."""
    if returncode is None:
        return ""
    unsigned = returncode & 0xFFFFFFFF
    if unsigned in WINDOWS:
        return WINDOWS[unsigned]
    number = -returncode if returncode < 0 else returncode - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}" if returncode < 0 else ""


def list_missing_instructions(cpuinfo: str | None = None) -> list[str]:
    """Instructions that today's packages use and this processor lacks, as ["FMA", "AVX2"].

    cpuinfo: the text of /proc/cpuinfo. The list is empty without that file, and for other families
    of processors (ARM).
    """
    cpuinfo = _read("/proc/cpuinfo") if cpuinfo is None else cpuinfo
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if not flags:
        return []
    present = set(flags[1].split())
    return [name for flag, name in WANTED.items() if flag not in present]


def describe_processor() -> str:
    """A clause on what the processor lacks."""
    model = re.search(r"^model name\s*:\s*(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    name = model[1] if model else platform.machine() or "unknown"
    missing = list_missing_instructions()
    if missing:
        return f"this processor ({name}) lacks {', '.join(missing)}"
    return f"this processor ({name}) lacks one that a package was built for"


def describe_memory() -> str:
    """Free memory in GB (10⁹ bytes), and the container's limit if there is one, as "1.2 GB free
    now".
    """
    available = re.search(r"^MemAvailable:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    parts = []
    if available:
        parts.append(f"{int(available[1]) * 1024 / 1e9:.1f} GB free now")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(file).strip()
        if limit.isdigit() and int(limit) < 1e15:  # the older file's "no limit" is a huge number
            parts.append(f"this container may use {int(limit) / 1e9:.1f} GB")
    return ", ".join(parts) or "how much is free is unknown"


def _read(path: str) -> str:
    """The text of a small system file, "" if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

"""Prepares a process for the machine it runs on: its terminal, its home folder, its PYTHONPATH.

Contract: it uses the standard library alone and runs before every other import, because libraries
read these variables once. It changes nothing on a sound machine, and prints each change. Child
processes and kernels inherit the changes.
"""

import codecs
import getpass
import io
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from lessons_lib.errors import CourseError
from lessons_lib.paths import BUILD

REFUGE = BUILD / "home"  # where tools write if they cannot write to the home folder
# replacements of signs that the course prints, for terminals that lack them
PLAIN_SIGNS = {
    "→": "->",
    "←": "<-",
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "x",
    "·": "-",
    "…": "...",
    "≥": ">=",
    "≤": "<=",
    "±": "+-",
    "━": "=",
    "─": "-",
    "│": "|",
    "█": "#",
    "✓": "ok",
    "⁹": "^9",
    "⁶": "^6",
    "“": '"',
    "”": '"',
    "„": '"',
    "‘": "'",
    "’": "'",
    "\u00a0": " ",
    "\u202f": " ",
}
# variables with the folders that tools write to, and their defaults; "~" is the home folder
PLACES = {
    "XDG_CACHE_HOME": "~/.cache",
    "XDG_CONFIG_HOME": "~/.config",
    "XDG_DATA_HOME": "~/.local/share",
    "HF_HOME": "$XDG_CACHE_HOME/huggingface",
    "MPLCONFIGDIR": "$XDG_CONFIG_HOME/matplotlib",
    "IPYTHONDIR": "~/.ipython",
    "JUPYTER_CONFIG_DIR": "~/.jupyter",
    "JUPYTER_DATA_DIR": "$XDG_DATA_HOME/jupyter",
    "JUPYTER_RUNTIME_DIR": "$JUPYTER_DATA_DIR/runtime",
    "TRITON_HOME": "~",
}
# variables of what can be read even where nothing can be written: downloads and the Hub's token
READ = {
    "LESSONS_CACHE": "$XDG_CACHE_HOME/lessons_lib",
    "HF_HUB_CACHE": "$HF_HOME/hub",
    "HF_TOKEN_PATH": "$HF_HOME/token",
}
CHOICE = "HOME, or LESSONS_CACHE, HF_HOME, JUPYTER_RUNTIME_DIR, IPYTHONDIR and MPLCONFIGDIR"


def prepare_process() -> None:
    """Prepares terminal, PYTHONPATH and home folder; prints what it had to change, on standard
    error.

    Raises CourseError where no folder can be written to.
    """
    prepare_terminal()
    # PYTHONOPTIMIZE would drop the assertions that grade notebooks
    os.environ.pop("PYTHONOPTIMIZE", None)
    for note in [*drop_foreign_packages(), *prepare_home()]:
        print(note, file=sys.stderr)


def prepare_terminal() -> None:
    """Lets every text be printed: a sign that the terminal lacks is replaced, an arrow by "->".

    Child processes write UTF-8, because this package reads their output as UTF-8.
    """
    codecs.register_error("plain_signs", _replace_signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain_signs")
    os.environ["PYTHONIOENCODING"] = "utf-8"
    os.environ["PYTHONUTF8"] = "1"


def _replace_signs(error: UnicodeError) -> tuple[str, int]:
    """The codec's error handler: gives the plain sign, or the code of a sign without one
    (\\u72d7).
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    plain = [PLAIN_SIGNS.get(sign) or ascii(sign)[1:-1] for sign in signs]
    return "".join(plain), error.end


def drop_foreign_packages() -> list[str]:
    """Removes other Pythons' installed packages from PYTHONPATH: they would replace the course's.

    The reader's own folders stay. Returns the notes for the reader.
    """
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    foreign = [entry for entry in entries if _is_foreign(entry)]
    if not foreign:
        return []
    remaining = os.pathsep.join(entry for entry in entries if entry not in foreign)
    if remaining:
        os.environ["PYTHONPATH"] = remaining
    else:
        del os.environ["PYTHONPATH"]
    unwanted = {os.path.abspath(entry) for entry in foreign}  # noqa: PTH100 (as Python itself does)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) not in unwanted]  # noqa: PTH100
    return [
        f"PYTHONPATH leads to another Python's packages, which are left out: {', '.join(foreign)}"
    ]


def _is_foreign(entry: str) -> bool:
    """Whether a folder holds the installed packages of a Python, and not of this one."""
    folder = Path(entry).absolute()
    own = [Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))]
    return folder.name in ("site-packages", "dist-packages") and folder not in own


def prepare_home() -> list[str]:
    """Makes the changes of `plan_home`: tools write to `build/home` what they cannot write to the
    home folder.

    Returns the notes for the reader. On a sound machine it returns none and changes nothing.
    Raises CourseError if `build/home` cannot be written to either.
    """
    _name_user()
    changes = plan_home()
    if not changes:
        return []
    moved = {name: folder for name, folder in changes.items() if name not in READ}
    try:
        for folder in moved.values():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"neither the home folder nor the course's own can be written to ({error}).",
            where=str(REFUGE),
            remedy=f"copy the course to a folder of your own, or set {CHOICE} to such folders.",
        ) from error
    os.environ |= {name: str(folder) for name, folder in changes.items()}
    if "TMPDIR" in moved:
        tempfile.tempdir = str(moved["TMPDIR"])
    return [describe_moves(list(moved))]


def describe_moves(names: list[str]) -> str:
    """The sentence for the reader on variables that were set to folders below `build/home`."""
    return (
        f"The home folder, or a folder in it, cannot be written to: tools write to {REFUGE} "
        f"instead ({', '.join(names)}). To choose other folders, set {CHOICE}."
    )


def list_moved() -> list[str]:
    """The variables that `prepare_home` has set in this process, or in the one that started it."""
    return [name for name, value in os.environ.items() if Path(value).is_relative_to(REFUGE)]


def plan_home() -> dict[str, Path]:
    """The variables to set so that tools can write, {} on a sound machine. Changes nothing.

    HOME is among them if it names no folder, TMPDIR if there is no folder for temporary files, and
    each variable of PLACES whose folder cannot be written to. A variable of READ keeps the old
    folder if one of these changes would move it away from existing files.
    """
    if os.name == "nt":  # other variables, other places
        return {}
    changes = {}
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        changes["TMPDIR"] = REFUGE / "TMPDIR"
    home = find_home()
    if home is None:
        home = REFUGE
        changes["HOME"] = home
    elif not os.environ.get("HOME"):
        changes["HOME"] = home  # programs other than Python read it too
    original = {}
    current = {}
    for name, default in PLACES.items():
        chosen = os.environ.get(name)
        original[name] = Path(chosen or _expand(default, home, original))
        current[name] = Path(chosen or _expand(default, home, current))
        if not can_write(current[name]):
            current[name] = REFUGE / name
            changes[name] = current[name]
    for name, default in READ.items():
        folder = _expand(default, home, original)
        is_moved = folder != _expand(default, home, current)
        if name not in os.environ and is_moved and folder.exists():
            changes[name] = folder
    return changes


def find_home() -> Path | None:
    """The home folder, or None: that of HOME, else that of the system's list of users."""
    try:
        home = Path(os.environ.get("HOME") or Path.home())
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return None
    # "~" would become such a folder
    return home if home.is_absolute() and home.is_dir() else None


def _expand(place: str, home: Path, places: dict[str, Path]) -> Path:
    """A default of PLACES or READ as a path: "$NAME" is looked up in `places`, "~" is `home`."""
    first, _, rest = place.partition("/")
    folder = home if first == "~" else places[first.removeprefix("$")]
    return folder / rest


def can_write(folder: Path) -> bool:
    """Whether files can be written to a folder, or the folder be made if it does not exist.

    A file is written to find out: a disk may be read-only or full, whatever the rights say.
    """
    try:
        while not os.path.lexists(folder):
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"a full disk takes no byte")
    except OSError:
        return False
    return True


def _name_user() -> None:
    """Names a user who has no name: some libraries fail without one."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # no USER, no entry in the list of users
        os.environ["USER"] = os.environ["LOGNAME"] = f"user{os.getuid()}"

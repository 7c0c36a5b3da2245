"""Prepares a process for the machine it runs on: its terminal, its home folder, its PYTHONPATH.

Contract: standard library only, for it comes before every other import: libraries read these
variables once. Where nothing is amiss, nothing is changed; what is changed is said. Child processes
and kernels inherit it.
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

REFUGE = BUILD / "home"  # where tools write that cannot write to the home folder
# signs that the course prints, for terminals that do not have them
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
# variables that say where tools write, and their places where nothing is set; "~" is the home
# folder
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
# what is read there even where nothing can be written: downloads, and the token for the Hub
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
    # it would drop the assertions by which notebooks are graded
    os.environ.pop("PYTHONOPTIMIZE", None)
    for note in [*drop_foreign_packages(), *prepare_home()]:
        print(note, file=sys.stderr)


def prepare_terminal() -> None:
    """Lets every text be printed: signs that the terminal lacks come out plain, an arrow as "->".

    Children write UTF-8, as this package expects of what it reads from them.
    """
    codecs.register_error("plain_signs", _replace_signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain_signs")
    os.environ["PYTHONIOENCODING"] = "utf-8"
    os.environ["PYTHONUTF8"] = "1"


def _replace_signs(error: UnicodeError) -> tuple[str, int]:
    """The codec's handler: the plain sign, or the code of what has none (\\u72d7)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    plain = [PLAIN_SIGNS.get(sign) or ascii(sign)[1:-1] for sign in signs]
    return "".join(plain), error.end


def drop_foreign_packages() -> list[str]:
    """Takes other Pythons' installed packages out of PYTHONPATH, where they would replace the
    course's.

    Returns what to tell the reader. Folders of the reader's own stay.
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
    """Lets tools write into `build/home` what they cannot write to the home folder, as `plan_home`
    says.

    Returns what to tell the reader; on a sound machine nothing, and nothing is changed or made.
    Raises CourseError where `build/home` cannot be written to either.
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

    These are HOME where it names no folder, TMPDIR where there is none for temporary files, and of
    PLACES those whose folder cannot be written to. READ's are set where what lies ready would be
    lost by that.
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
        home = changes["HOME"] = REFUGE
    elif not os.environ.get("HOME"):
        changes["HOME"] = home  # programs that are no Python ask for it too
    original = {}
    current = {}
    for name, default in PLACES.items():
        chosen = os.environ.get(name)
        original[name] = Path(chosen or _expand(default, home, original))
        current[name] = Path(chosen or _expand(default, home, current))
        if not can_write(current[name]):
            changes[name] = current[name] = REFUGE / name
    for name, default in READ.items():
        folder = _expand(default, home, original)
        if name not in os.environ and folder != _expand(default, home, current) and folder.exists():
            changes[name] = folder
    return changes


def find_home() -> Path | None:
    """The home folder, if there is one: HOME's, else that of the system's list of users."""
    try:
        home = Path(os.environ.get("HOME") or Path.home())
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return None
    # "~" would become such a folder
    return home if home.is_absolute() and home.is_dir() else None


def _expand(place: str, home: Path, places: dict[str, Path]) -> Path:
    """A place of PLACES or READ as a path: "$NAME" is looked up in `places`, "~" is `home`."""
    first, _, rest = place.partition("/")
    folder = home if first == "~" else places[first.removeprefix("$")]
    return folder / rest


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it is not there yet.

    Tried, not asked: a disk may be read-only, or full, whatever the rights say.
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
    """Gives a user without a name one: some libraries ask for it, and stop without."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # no USER, no entry in the list of users
        os.environ["USER"] = os.environ["LOGNAME"] = f"user{os.getuid()}"

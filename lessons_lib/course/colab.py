"""What a lesson's first cell does in Colab and on Kaggle: it installs the packages that the host
lacks.

Contract: torch, numpy and whatever else the host has loaded keep their versions. The rest is
installed by the ranges in pyproject.toml. Where the lesson cannot run, it raises a ColabError. It
needs only the standard library, because it runs before anything is installed. It has not been
tested on Kaggle.
"""

import importlib.metadata
import os
import re
import subprocess
import sys

from lessons_lib.errors import CourseError
from lessons_lib.paths import REPOSITORY

# the kernel, or its CUDA, depends on these
KEPT = ("torch", "torchvision", "torchaudio", "numpy")
TORCHAO = (0, 16)  # PEFT adds no LoRA beside an older one; the course does not need torchao
# what the menus are called, in Colab and on Kaggle
RESTART = {
    "colab": "Runtime → Restart session, then Runtime → Run all; nothing is installed twice.",
    "kaggle": "Run → Restart & clear cell outputs, then Run → Run all; nothing is installed twice.",
}
AFRESH = {
    "colab": "Runtime → Disconnect and delete runtime, then connect again; if it stays, report "
    "these lines.",
    "kaggle": "Settings → Internet on, then Run → Factory reset; if it stays, report these lines.",
}
GPU_MENU = {"colab": "Runtime → Change runtime type", "kaggle": "Settings → Accelerator"}


class ColabError(CourseError):
    """The course cannot be set up in this session of Colab or Kaggle; the remedy names its
    menus.
    """


def set_up() -> None:
    """Installs the package, compares loaded with installed versions, chooses the profile and goes
    to the notebooks' folder. The profile is LESSONS_PROFILE, else `gpu` where there is a GPU, else
    `laptop`.

    Raises ColabError when the installation fails or the session must be restarted.
    """
    before = read_versions()
    if "torchao" in before:
        _remove_old_torchao(before["torchao"])
    install(before)
    stale = find_stale_modules(before, read_versions())
    if stale:
        what = f"Loaded in another version than is now installed: {'; '.join(stale)}."
        raise ColabError(what, remedy=RESTART[find_host()])
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    profile = os.environ.setdefault("LESSONS_PROFILE", "gpu" if gpu else "laptop")
    os.chdir(REPOSITORY / "notebooks")
    device = gpu or f"no GPU ({GPU_MENU[find_host()]} offers one)"
    print(f"profile {profile}: {device}")


def _remove_old_torchao(version: str) -> None:
    """Uninstalls a torchao that PEFT does not accept."""
    numbers = [int(number) for number in _release(version).split(".")]
    if tuple(numbers[:2]) < TORCHAO:
        pip = [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", "torchao"]
        subprocess.run(pip, check=True)


def find_host() -> str:
    """ "kaggle" on Kaggle, else "colab"."""
    return "kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "colab"


def install(before: dict[str, str]) -> None:
    """Installs the package by its ranges; the versions in `before` constrain the packages of KEPT.

    Raises ColabError with pip's last lines.
    """
    constraints = REPOSITORY / "build" / "constraints.txt"
    constraints.parent.mkdir(exist_ok=True)
    pins = [f"{name}=={before[name]}\n" for name in KEPT if name in before]
    constraints.write_text("".join(pins))
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    command = [*pip, "-e", REPOSITORY, "-c", constraints]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if run.returncode:
        what = "pip could not install the course beside what must stay:"
        lines = f"{constraints.read_text()}{run.stderr.strip()[-1500:]}"
        raise ColabError(f"{what}\n{lines}\n", remedy=AFRESH[find_host()])


def read_versions() -> dict[str, str]:
    """Installed versions by normalised name (`scikit-learn`)."""
    importlib.invalidate_caches()
    versions = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"] or "~"
        # the first counts: setuptools brings copies of others along; "~" marks what pip left behind
        if not name.startswith("~"):
            versions.setdefault(_normalise(name), distribution.version)
    return versions


def find_stale_modules(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Packages loaded in another version than is installed now, as "numpy 1.26.4, not 2.1.0".

    A package's loaded version is the one in `before`. Of packages that the course requires or keeps
    it is their `__version__`; other packages' `__version__` may differ from the installed version.
    """
    requirements = importlib.metadata.requires("lessons_lib") or []
    required = {_normalise(re.match(r"[\w.-]+", line)[0]) for line in requirements}
    stale = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        if module not in sys.modules:
            continue
        names = {_normalise(name) for name in owners if name}
        for owner in names & now.keys():
            loaded = before.get(owner, now[owner])
            if owner in required.union(KEPT):
                loaded = getattr(sys.modules[module], "__version__", loaded)
            if _release(loaded) != _release(now[owner]):
                stale[owner] = f"{owner} {loaded}, not {now[owner]}"
    return sorted(stale.values())


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _release(version: str) -> str:
    """The numbers of a version: 1.2.3 of 1.2.3+cu126 and of 1.2.3.post1. Not every `__version__`
    has the rest.
    """
    numbers = re.match(r"\d(?:[\d.]*\d)?", version)
    return numbers[0] if numbers else version

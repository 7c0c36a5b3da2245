"""What a lesson's first cell does in Colab and on Kaggle: installs what is missing, beside what
runs there.

Contract: torch, numpy and whatever else the host has loaded keep their versions; the rest is
installed by the ranges in pyproject.toml. It ends with a ColabError where going on would be wrong.
It needs only the standard library, because it runs before anything is installed. On Kaggle it is
untried.
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
TORCHAO = (0, 16)  # PEFT refuses an older one as soon as it adds LoRA; the course does without
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
    if (
        "torchao" in before
        and tuple(map(int, _release(before["torchao"]).split(".")[:2])) < TORCHAO
    ):
        subprocess.run(
            [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", "torchao"], check=True
        )
    install(before)
    stale = find_stale_modules(before, read_versions())
    if stale:
        what = f"Loaded in another version than is now installed: {'; '.join(stale)}."
        raise ColabError(what, remedy=RESTART[find_host()])
    import torch

    found = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    profile = os.environ.setdefault("LESSONS_PROFILE", "gpu" if found else "laptop")
    os.chdir(REPOSITORY / "notebooks")
    print(f"profile {profile}: {found or f'no GPU ({GPU_MENU[find_host()]} offers one)'}")


def find_host() -> str:
    """ "kaggle" on Kaggle, else "colab"."""
    return "kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "colab"


def install(before: dict[str, str]) -> None:
    """Installs the package by its ranges, with the versions in `before` of what is kept as
    constraints.

    Raises ColabError with pip's last lines.
    """
    constraints = REPOSITORY / "build" / "constraints.txt"
    constraints.parent.mkdir(exist_ok=True)
    constraints.write_text("".join(f"{name}=={before[name]}\n" for name in KEPT if name in before))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "-e",
        REPOSITORY,
        "-c",
        constraints,
    ]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if run.returncode:
        what = "pip could not install the course beside what must stay:"
        lines = f"{constraints.read_text()}{run.stderr.strip()[-1500:]}"
        raise ColabError(f"{what}\n{lines}\n", remedy=AFRESH[find_host()])


def read_versions() -> dict[str, str]:
    """Installed versions by normalised name (`scikit-learn`)."""
    importlib.invalidate_caches()
    versions = {}
    for found in importlib.metadata.distributions():
        # the first counts: setuptools brings copies of others along; "~" marks what pip left behind
        if (found.metadata["Name"] or "~")[0] != "~":
            versions.setdefault(_normalise(found.metadata["Name"]), found.version)
    return versions


def find_stale_modules(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Packages loaded in another version than is installed now, as "numpy 1.26.4, not 2.1.0".

    Those are what was replaced since `before`, and what the course asks for by name if its
    `__version__` says so: other packages' `__version__` may never be that of their installation.
    """
    wanted = importlib.metadata.requires("lessons_lib") or []
    asked = {_normalise(re.match(r"[\w.-]+", line)[0]) for line in wanted}
    stale = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in {
            _normalise(name) for name in owners if name and module in sys.modules
        } & now.keys():
            loaded = before.get(owner, now[owner])
            if owner in asked.union(KEPT):
                loaded = getattr(sys.modules[module], "__version__", loaded)
            if _release(loaded) != _release(now[owner]):
                stale[owner] = f"{owner} {loaded}, not {now[owner]}"
    return sorted(stale.values())


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _release(version: str) -> str:
    """1.2.3 of 1.2.3+cu126 and 1.2.3.post1: what is left out is not seen in `__version__`
    everywhere.
    """
    return re.match(r"[\d.]*\d", version)[0] if re.match(r"\d", version) else version

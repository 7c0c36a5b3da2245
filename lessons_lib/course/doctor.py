"""What this machine can run, and what to do where it cannot.

Contract: every look is a function that may fail without stopping the others. It imports what it
looks at itself, so that a broken installation is diagnosed too. Packages with native code are first
imported in processes of their own, because they may crash, as on a processor without AVX2. Nothing
is installed, downloaded or changed.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from lessons_lib.course import console
from lessons_lib.course.colab import read_versions
from lessons_lib.course.crashes import PROCESSOR_REMEDY, explain_death, list_missing_instructions
from lessons_lib.errors import CourseError
from lessons_lib.paths import REPOSITORY

BOTH = ("laptop", "gpu")
SETUP = "rm -rf .venv && make setup"
NEWER = "make PYTHON=/path/to/newer/python"
GATED = "meta-llama/Llama-2-7b-chat-hf"
MEMORY_GB = 4
DISK_GB = 3
GPU_GB = 14
NATIVE = ("torch", "bitsandbytes", "faiss", "sklearn", "tokenizers", "pyarrow")  # slowest first
IMPORT_SECONDS = 120  # a cold disk needs a while for torch's 700 MB


@dataclass(frozen=True)
class Check:
    """What one look found. blocks: the profiles that cannot run because of it."""

    name: str
    found: str
    remedy: str = ""
    blocks: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """ "failure" if it blocks a profile, "warning" if it only has a remedy, else "ok"."""
        return "failure" if self.blocks else "warning" if self.remedy else "ok"


def run_doctor(profile: str, as_json: bool = False) -> int:
    """Prints what was found; returns 0 if `profile` (laptop or gpu) can run here, else 1."""
    checks = list(examine())
    can_run = {name: not any(name in check.blocks for check in checks) for name in BOTH}
    if as_json:
        shown = [asdict(check) | {"status": check.status} for check in checks]
        print(json.dumps({"can_run": can_run, "checks": shown}, indent=1))
        return 0 if can_run[profile] else 1
    for check in checks:
        remedy = f"\n{'':20}remedy: {check.remedy}" if check.remedy else ""
        print(f"{check.status:9}{check.name:11}{check.found}{remedy}")
    verdicts = [f"{name}: {'can' if can else 'cannot'} run" for name, can in can_run.items()]
    print(f"\n{', '.join(verdicts)}")
    return 0 if can_run[profile] else 1


def examine() -> Iterator[Check]:
    """Every check in turn. A look that raises an error gives a check with that error."""
    for look in LOOKS:
        name = look.__name__.removeprefix("look_at_")
        try:
            yield from look()
        except CourseError as error:
            yield Check(name, error.what, error.remedy, BOTH)
        except Exception as error:  # any error is a finding: something is broken here
            yield Check(name, f"{type(error).__name__}: {error}", SETUP, BOTH)


def look_at_python() -> Iterator[Check]:
    """The version, 3.11 or newer."""
    old = sys.version_info < (3, 11)
    yield Check("python", sys.version.split()[0], NEWER if old else "", BOTH if old else ())


def look_at_packages() -> Iterator[Check]:
    """Installed versions against the ranges, and against the tested set."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    def list_others(lines: Iterable[str]) -> list[str]:
        """The required packages that are missing, or installed in another version."""
        others = []
        for requirement in map(Requirement, lines):
            if requirement.marker and not requirement.marker.evaluate():
                continue
            version = installed.get(canonicalize_name(requirement.name), "0")
            if not requirement.specifier.contains(version, prereleases=True):
                others.append(str(requirement))
        return others

    installed = read_versions()
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    tested = [line for line in lines if "==" in line]
    bad = list_others(importlib.metadata.requires("lessons_lib") or [])
    others = list_others(tested)
    if bad:
        yield Check("packages", f"missing, or out of range: {', '.join(bad)}", SETUP, BOTH)
    else:
        summary = f"{len(tested) - len(others)} of {len(tested)} as tested"
        if others:
            summary += f"; in their ranges, but not {', '.join(others)}"
        yield Check("packages", summary)


def look_at_native_code() -> Iterator[Check]:
    """Whether the packages with native code can be imported here."""
    with ThreadPoolExecutor(2) as pool:
        problems = dict(zip(NATIVE, pool.map(find_import_problem, NATIVE), strict=True))
    for name, (what, remedy) in problems.items():
        if what:
            yield Check("import", f"{name}: {what}", remedy, BOTH)
    if not any(what for what, _ in problems.values()):
        yield Check("import", ", ".join(NATIVE))


@cache
def find_import_problem(name: str) -> tuple[str, str]:
    """The problem when a process imports a package, and the remedy; ("", "") without a problem."""
    command = [sys.executable, "-c", f"import {name}"]
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": IMPORT_SECONDS}
    try:
        run = subprocess.run(command, encoding="utf-8", errors="replace", **options)
    except subprocess.TimeoutExpired:
        return f"not imported after {IMPORT_SECONDS} s", "move the course to a faster disk."
    if run.returncode == 0:
        return "", ""
    lines = run.stderr.strip().splitlines()
    if run.returncode == 1 and lines:  # an exception
        return lines[-1], _explain_import(lines[-1])
    return explain_death(run.returncode)


def _explain_import(line: str) -> str:
    """The remedy for an exception at an import, from its last line."""
    if os.environ.get("PYTHONPATH"):
        return "unset PYTHONPATH, whose modules come before the installed ones."
    if "GLIBC" in line or "CXXABI" in line:
        return "unset LD_LIBRARY_PATH; if it is not set, this system is too old for the package."
    if "libgomp" in line or "cannot open shared object" in line:
        return (
            "install the system's library that the line names "
            "(Debian, Ubuntu: sudo apt install libgomp1)."
        )
    return SETUP


def need(*names: str) -> None:
    """Raises CourseError if one of these packages cannot be imported: its import here could end
    the doctor.
    """
    for name in names:
        what, remedy = find_import_problem(name)
        if what:
            raise CourseError(f"not looked at, as {name} cannot be imported: {what}", remedy=remedy)


def look_at_home() -> Iterator[Check]:
    """The home folder, to which tools write, and PYTHONPATH."""
    planned = [name for name in console.plan_home() if name not in console.READ]
    moved = [*console.list_moved(), *planned]
    if moved:
        remedy = f"the course goes on there; to choose other folders, set {console.CHOICE}"
        replaced = f"{console.REFUGE} for {', '.join(moved)}"
        yield Check("home", f"cannot be written to, or not everywhere: {replaced}", remedy)
    else:
        yield Check("home", str(console.find_home()))
    if os.environ.get("PYTHONPATH"):
        yield Check(
            "PYTHONPATH", os.environ["PYTHONPATH"], "unset it: its modules replace the course's"
        )


def look_at_processor() -> Iterator[Check]:
    """The processor's instructions, the number format chosen for them, and its cores."""
    missing = list_missing_instructions()
    if missing:
        problem = f"without {', '.join(missing)}: packages may end with an illegal instruction"
        yield Check("processor", problem, PROCESSOR_REMEDY)
    need("torch")
    import torch
    from joblib import cpu_count

    from lessons_lib.hardware import choose_precision

    features = [
        name for name, has in torch.cpu.get_capabilities().items() if has is True and "avx" in name
    ]
    chosen = choose_precision("cpu")
    yield Check("processor", f"{', '.join(features) or 'no AVX'}; {chosen.dtype}: {chosen.reason}")
    remedy = "expect twice the README's minutes" if cpu_count() < 2 else ""
    yield Check("cores", str(cpu_count()), remedy)


def look_at_memory() -> Iterator[Check]:
    """Free memory and free disk in GB (10⁹ bytes)."""
    import psutil

    from lessons_lib.assets import cache_folder

    memory = psutil.virtual_memory()
    total = memory.total / 1e9
    free = memory.available / 1e9
    limit_file = Path("/sys/fs/cgroup/memory.max")  # a container's limit, which psutil ignores
    limit = limit_file.read_text().strip() if limit_file.is_file() else "max"
    if limit != "max":
        total = min(total, float(limit) / 1e9)
        free = min(free, float(limit) / 1e9)
    remedy = "" if free > MEMORY_GB else "close other programs; lesson 04 needs least"
    blocks = BOTH if total < MEMORY_GB / 2 else ()
    summary = f"{free:.1f} of {total:.1f} GB free, {MEMORY_GB} wanted"
    yield Check("memory", summary, remedy, blocks)
    ancestors = (cache_folder(), *cache_folder().parents)
    cache = next(folder for folder in ancestors if folder.exists())
    for folder in (REPOSITORY, cache):
        free = shutil.disk_usage(folder).free / 1e9
        remedy = "" if free > DISK_GB else "free some space, or move the cache by LESSONS_CACHE"
        blocks = BOTH if free < DISK_GB / 3 else ()
        yield Check("disk", f"{free:.0f} GB free at {folder}", remedy, blocks)


def look_at_gpu() -> Iterator[Check]:
    """The GPU and its memory, and whether 4-bit weights work on the CPU and there."""
    need("torch", "bitsandbytes")
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        weights = torch.linspace(-1, 1, 4096, device=device)
        quantized, state = quantize_4bit(weights, quant_type="nf4")
        difference = dequantize_4bit(quantized, state) - weights
        error = difference.abs().mean().item()
        blocks = () if error < 0.1 else BOTH
        yield Check("4-bit", f"{device}: mean error {error:.3f}", SETUP if blocks else "", blocks)
    if "cuda" in devices:
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        remedy = "" if memory > GPU_GB else f"a smaller decoder: Llama-2-7B wants {GPU_GB} GB"
        yield Check("gpu", f"{torch.cuda.get_device_name()}, {memory:.0f} GB", remedy)
    else:
        yield Check("gpu", "none", "Colab lends one; the laptop profile needs none", ("gpu",))


def look_at_assets() -> Iterator[Check]:
    """The packaged models and data in the cache; the first run fetches those that are missing."""
    from lessons_lib.assets import ASSETS, cache_folder

    missing = [asset for name, asset in ASSETS.items() if not (cache_folder() / name).is_dir()]
    if not missing:
        yield Check("assets", f"all {len(ASSETS)} in the cache")
        return
    megabytes = sum(asset.sources[0].megabytes for asset in missing)
    names = ", ".join(asset.name for asset in missing)
    remedy = "make course, with a network, fetches them"
    yield Check("assets", f"missing: {names} ({megabytes:.0f} MB)", remedy)


def look_at_hub() -> Iterator[Check]:
    """The Hugging Face Hub, which the gpu profile alone needs, and access to Llama-2 by the
    token.
    """
    from huggingface_hub import auth_check, constants, get_token
    from huggingface_hub.errors import GatedRepoError

    from lessons_lib.assets import CERTIFICATE

    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()
    except (OSError, HTTPException, ValueError) as error:
        # no network, a proxy, an address badly written
        remedy = "check network, proxy, HF_HUB_OFFLINE"
        if "CERTIFICATE_VERIFY" in str(error):
            remedy = CERTIFICATE
        yield Check("hub", f"not reached ({error})", remedy, ("gpu",))
        return
    try:
        access = "access granted" if get_token() and auth_check(GATED) is None else "no token"
    except GatedRepoError:
        access = "no access"
    except Exception as error:  # an expired token, most often
        access = f"{type(error).__name__}, perhaps for a token that has expired"
    remedy = ""
    if access != "access granted":
        page = f"{constants.ENDPOINT}/{GATED}"
        remedy = f"accept the licence on {page}, then export HF_TOKEN=… (else an open model runs)"
    yield Check("hub", f"reached; Llama-2: {access}", remedy)


def look_at_jupyter() -> Iterator[Check]:
    """The kernel that notebooks start, and a browser to read them in."""
    from jupyter_client.manager import KernelManager

    started = KernelManager(kernel_name="python3").format_kernel_cmd()[0]
    # compared by folder: the Pythons of two environments are often links to the same file
    blocks = () if Path(started).parent == Path(sys.executable).parent else BOTH
    remedy = f"{sys.executable} -m ipykernel install --sys-prefix" if blocks else ""
    yield Check("kernel", f"python3 starts {started}", remedy, blocks)
    try:
        yield Check("browser", webbrowser.get().name)
    except webbrowser.Error:
        yield Check("browser", "none found", "open the address that make lab prints elsewhere")


LOOKS = (
    look_at_python,
    look_at_home,
    look_at_packages,
    look_at_native_code,
    look_at_processor,
    look_at_memory,
    look_at_gpu,
    look_at_assets,
    look_at_hub,
    look_at_jupyter,
)

"""This machine: the number format to compute in, its device and its peak memory.

Contract: precision follows from what the hardware reports, never from a timing. So one machine
always chooses the same, and two runs with one seed stay identical.
"""

import contextlib
import ctypes
import gc
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from accelerate import PartialState

from lessons_lib.errors import SettingError

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Precision:
    """`dtype` is "bfloat16" or "float32"; `reason` is a sentence for the reader."""

    dtype: str
    reason: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """The same as a torch.dtype."""
        return getattr(torch, self.dtype)


def choose_precision(device: str | None = None) -> Precision:
    """The precision to train in on `device`: "cuda" or "cpu", by default CUDA if there is one.

    bf16 matrix products run four to five times faster than fp32 on a CPU with AVX512_BF16, and
    slower on one without it. `ONEDNN_MAX_CPU_ISA`, which limits the instructions of oneDNN, is
    respected. `LESSONS_PRECISION` ("float32" or "bfloat16") overrides the choice, so that one
    machine can show the results of the other format. Raises SettingError for another value.
    """
    forced = os.environ.get("LESSONS_PRECISION")
    if forced:
        if forced not in PRECISIONS:
            raise SettingError(
                f"there is no precision {forced!r}.",
                where="LESSONS_PRECISION",
                remedy=f"one of {', '.join(PRECISIONS)}, or unset it.",
            )
        return Precision(forced, "LESSONS_PRECISION says so")
    if (device or pick_device()) == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bfloat16", "this GPU computes bf16 natively")
        return Precision("float32", "this GPU has no native bf16")
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if limit and not any(
        word in limit for word in ("BF16", "AMX", "FP16", "AVX10", "DEFAULT", "ALL")
    ):
        return Precision("float32", f"ONEDNN_MAX_CPU_ISA={limit} rules out bf16 instructions")
    if torch.cpu.get_capabilities().get("avx512_bf16"):
        return Precision("bfloat16", "this CPU has AVX512_BF16, where bf16 is faster than fp32")
    return Precision("float32", "this CPU has no AVX512_BF16, and bf16 would be slower than fp32")


def pick_device() -> str:
    """ "cuda" if a CUDA device is visible, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def join_processes() -> PartialState:
    """The number of this process and of all processes of the run.

    There is one, unless `accelerate launch` or torchrun started several. These are connected, by
    gloo on CPUs and by NCCL on GPUs.
    """
    return PartialState(cpu=pick_device() == "cpu")


def describe_peak_memory() -> str:
    """Which memory `peak_memory_mb` counts on this machine."""
    if torch.cuda.is_available():
        return "GPU memory that PyTorch allocated"
    return "resident memory of the process"


def current_memory_mb() -> float:
    """Memory in MB (10⁶ bytes) at this moment, of what `peak_memory_mb` counts."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / 1e6
    return psutil.Process().memory_info().rss / 1e6


def free_memory() -> None:
    """Gives memory that nothing uses any more back to the system and to other models.

    For use after a model was let go of. A 4-bit layer and its weight point to each other, so Python
    frees them only when it looks for such rings; PyTorch keeps freed GPU memory; and the C library
    of Linux keeps what was freed between pieces still in use: after a training, gigabytes.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory() -> None:
    """Lets `peak_memory_mb` count from now on. Outside of Linux and of a GPU it does nothing: there
    a process's peak is that of its whole life."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Peak memory of this process so far, in MB (10⁶ bytes): allocated by PyTorch on the GPU if
    there is one, else resident memory.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset / 1e6
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def describe_machine() -> dict[str, str | int]:
    """The properties of this machine that matter when speeds are compared."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "system": platform.system(),
        "cpu": str(capabilities.get("cpu_name", platform.machine())),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "precision": choose_precision().dtype,
        "python": platform.python_version(),
    }

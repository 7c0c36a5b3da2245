"""What the machine is busy with while it trains: processor and memory, and the GPU if there is one.

Contract: it observes, and neither stops a training nor changes what is trained.
"""

import threading
import time

import pandas as pd
import psutil
import torch
from transformers import TrainerCallback

from lessons_lib.hardware import current_memory_mb

SECONDS_BETWEEN = 0.2  # two readings
# name → what reads it, and its unit in what is read
GPU_READINGS = {
    "gpu_percent": (torch.cuda.utilization, 1),
    "gpu_memory_mb": (torch.cuda.device_memory_used, 1e-6),
    "gpu_celsius": (torch.cuda.temperature, 1),
    "gpu_watts": (torch.cuda.power_draw, 1e-3),
}
PEAKS = ("memory_mb", "gpu_memory_mb")  # of which a step's largest reading counts; else the mean


class ResourceMonitor(TrainerCallback):
    """Reads the machine's load in a thread of its own, and sums it up step by step.

    What trackers log gets the step's readings as well, if this callback comes before theirs.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.memory_before = 0.0  # MB, when training began
        self.readings: list[dict[str, float]] = []
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._read_on, daemon=True)
        self.began = 0.0

    def table(self) -> pd.DataFrame:
        """One row per step: `step`, `seconds` since training began, `cpu_percent` (of all cores),
        `memory_mb` (10⁶ bytes, see `current_memory_mb`); on a GPU also `gpu_percent`,
        `gpu_memory_mb` (of all processes), `gpu_celsius` and `gpu_watts`.
        """
        return pd.DataFrame(self.steps)

    def rise_mb(self) -> float:
        """By how many MB memory rose, at most, above what it was when training began."""
        readings = [step["memory_mb"] for step in self.steps]
        return max(readings, default=self.memory_before) - self.memory_before

    def on_train_begin(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Starts reading."""
        self.began = time.perf_counter()
        self.memory_before = current_memory_mb()
        psutil.cpu_percent()  # the first call only starts its clock
        self.thread.start()

    def on_step_end(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Sums up the readings since the last step."""
        readings, self.readings = self.readings, []
        table = pd.DataFrame(readings or [read_load()])
        step = {"step": state.global_step, "seconds": time.perf_counter() - self.began}
        for name, values in table.items():
            step[name] = float(values.max() if name in PEAKS else values.mean())
        self.steps.append(step)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:  # noqa: ANN001
        """Adds the last step's readings to what is logged."""
        if logs is not None and "loss" in logs and self.steps:
            logs.update({k: v for k, v in self.steps[-1].items() if k not in ("step", "seconds")})

    def on_train_end(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Stops reading."""
        self.stop()

    def stop(self) -> None:
        """Ends the thread, if it runs. To be called where a training may end in an error, which
        tells no callback."""
        self.is_over.set()
        if self.thread.is_alive():
            self.thread.join()

    def _read_on(self) -> None:
        while not self.is_over.wait(SECONDS_BETWEEN):
            self.readings.append(read_load())


def read_load() -> dict[str, float]:
    """One reading, with the columns of `ResourceMonitor.table`. GPU readings come from NVML; those
    that a GPU, its driver or its virtual machine do not give are left out.
    """
    load = {"cpu_percent": psutil.cpu_percent(), "memory_mb": current_memory_mb()}
    if not torch.cuda.is_available():
        return load
    for name, (read, scale) in GPU_READINGS.items():
        try:
            load[name] = read() * scale
        except Exception:  # a training must not end for want of a temperature
            continue
    return load


def describe_resources(resources: pd.DataFrame) -> str:
    """A sentence about a training's resources, as `ResourceMonitor.table` has them.

    >>> describe_resources(pd.DataFrame({"cpu_percent": [90.0, 100.0], "memory_mb": [900.0, 1200]}))
    'processor 95 % busy on average; memory up to 1,200 MB'
    """
    if resources.empty:
        return "no step was trained"
    parts = [
        f"processor {resources['cpu_percent'].mean():.0f} % busy on average",
        f"memory up to {resources['memory_mb'].max():,.0f} MB",
    ]
    if "gpu_percent" in resources:
        parts.append(f"GPU {resources['gpu_percent'].mean():.0f} % busy on average")
    if "gpu_watts" in resources:
        parts.append(f"{resources['gpu_watts'].mean():.0f} watts on average")
    if "gpu_celsius" in resources:
        parts.append(f"up to {resources['gpu_celsius'].max():.0f} °C")
    return "; ".join(parts)

"""As PYTHONSTARTUP, this takes a notebook through the `gpu` profile's branches, in bf16, on any
CPU.

The profile keeps its tiny models and is called "gpu"; the CPU says that it is fast at bf16, as
those with AVX512_BF16 are. So a lesson that stops on a GPU, or on such a CPU, stops here; what only
CUDA can do is not tried.
"""


def pretend() -> None:
    """Names it uses are local: the notebook must import its own."""
    import dataclasses
    import functools
    import os
    from pathlib import Path

    import torch

    from lessons_lib import profiles, report

    os.environ["LESSONS_PRECISION"] = "bfloat16"
    torch.cuda.mem_get_info = lambda: (80e9, 80e9)  # bytes, free and in all
    load = profiles.load_profile
    large = {"name": "gpu", "quantize": True, "gradient_checkpointing": True}
    profiles.load_profile = lambda *place, **changes: dataclasses.replace(
        load(*place, **changes), **large
    )
    # a reader with a GPU has results of that profile which these must not replace
    report.write_results = functools.partial(report.write_results, folder=Path("../build/results"))


pretend()
del pretend

"""What several test files use."""

import ast
import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from lessons_lib.paths import NOTEBOOKS
from lessons_lib.training.wandb_record import read_wandb_run


def hash_weights(model: nn.Module, keep: Callable[[str], bool] = lambda name: True) -> str:
    """A SHA-256 over the parameters whose names `keep` accepts: equal if and only if they are, to
    the bit.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if keep(name):
            digest.update(
                name.encode()
                + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            )
    return digest.hexdigest()


def read_tracked_losses(output_dir: Path) -> list[float]:
    """The training losses in the offline W&B run below a training's `output_dir`, in order."""
    return read_wandb_run(output_dir)["train/loss"].dropna().tolist()


def take_functions(lesson: str, *names: str, **scope: object) -> list[Callable]:
    """Functions as a lesson's cells define them; `scope` is what they use."""
    tree = ast.parse((NOTEBOOKS / f"{lesson}.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") in names]
    exec(compile(tree, lesson, "exec"), scope)
    return [scope[name] for name in names]

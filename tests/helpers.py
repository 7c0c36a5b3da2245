"""What several test files use."""

import hashlib
from collections.abc import Callable

import torch
from torch import nn


def hash_weights(model: nn.Module, keep: Callable[[str], bool] = lambda name: True) -> str:
    """A SHA-256 over the parameters whose names `keep` accepts: equal if and only if they are, to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if keep(name):
            digest.update(
                name.encode()
                + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            )
    return digest.hexdigest()

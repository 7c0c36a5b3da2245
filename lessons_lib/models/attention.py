"""Attention that is exact and fast on a CPU: which form is computed for which shape and format.

Contract: the same numbers as PyTorch's `scaled_dot_product_attention`, up to rounding, forwards and
backwards; no dropout. Which form is fastest was measured (`make bench LESSON=attention`); on a GPU
nothing is changed.

A batch of packed rows (see `pack_rows`) is one sequence in which a token may look at few of the
others. There attention is computed row by row: its cost grows with the rows' own lengths, and not
with the square of the whole sequence's.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lessons_lib.hardware import pick_device

FAST_ATTENTION = "exact_by_shape"
# Training in bf16: up to so many tokens per row, plain products are faster than PyTorch's fused
# attention in fp32, which is the best of its forms, for its backward pass in bf16 takes several
# times as long (AMD Zen 4 and Intel with AMX alike; PyTorch 2.13).
SHORT_ROWS = 160
# Packed rows are laid out at a multiple of so many tokens, for the reason that
# `training.packing` gives.
LONGEST_STEP = 16


@contextlib.contextmanager
def fast_attention(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Lets a model compute attention by `attend` while it lasts, on a CPU and where the model takes
    PyTorch's fused attention."""
    core = model.get_base_model() if isinstance(model, PeftModel) else model
    config = getattr(core, "config", None)
    if pick_device() != "cpu" or getattr(config, "_attn_implementation", None) != "sdpa":
        yield
        return
    core.set_attn_implementation(FAST_ATTENTION)
    try:
        yield
    finally:
        core.set_attn_implementation("sdpa")


@dataclass(frozen=True)
class RowLayout:
    """Where the rows of a packed sequence are.

    indices: (rows, longest), for each row the places of its tokens in the sequence; shorter rows
    are filled up at the end with the place 0, all of them to a multiple of LONGEST_STEP. owners:
    (tokens), for each token of the sequence one of its places in the flattened `indices`.
    """

    indices: torch.Tensor
    owners: torch.Tensor


def find_rows(mask: torch.Tensor) -> RowLayout:
    """The rows behind the mask of a packed sequence.

    mask: (tokens, tokens), True where a token may look. A token that no other looks at ends a row;
    all that it looks at is the row.

    >>> tree = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]]).bool()  # 0 1 and 0 2
    >>> find_rows(tree).indices[:, :2].tolist()
    [[0, 1], [0, 2]]
    """
    ends = (mask.sum(0) == 1).nonzero()[:, 0]
    seen = mask[ends]
    lengths = seen.sum(1)
    row, place = seen.nonzero(as_tuple=True)
    starts = lengths.cumsum(0) - lengths
    position = torch.arange(len(place), device=mask.device) - starts[row]
    longest = LONGEST_STEP * math.ceil(int(lengths.max()) / LONGEST_STEP)
    indices = torch.zeros(len(ends), longest, dtype=torch.long, device=mask.device)
    indices[row, position] = place
    owners = torch.empty(len(mask), dtype=torch.long, device=mask.device)
    owners[place] = row * longest + position
    return RowLayout(indices, owners)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Attention of `query` (batch, heads, tokens, width) over `key` and `value`, whose heads may be
    fewer; returns (batch, tokens, heads, width). mask: bool, True where a token may look, or a
    number that is added."""
    # under autocast the rotation by position leaves queries and keys in fp32
    query = query.to(value.dtype)
    key = key.to(value.dtype)
    scaling = options.get("scaling") or query.shape[-1] ** -0.5
    if _is_packed(module, query, key, mask):
        layout = _remember_rows(mask)
        rows = [_gather(tensor, layout) for tensor in (query, key, value)]
        output = _attend_rows(*rows, None, scaling, is_causal=True)
        width = output.shape[-2] * output.shape[-1]
        output = nn.functional.embedding(layout.owners, output.reshape(-1, width))
        return output.view(1, len(layout.owners), query.shape[1], -1), None
    if options.get("dropout") or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, mask, **options)
    is_causal = bool(getattr(module, "is_causal", False)) and mask is None
    rows = [tensor.transpose(1, 2) for tensor in (query, key, value)]
    return _attend_rows(*rows, mask, scaling, is_causal=is_causal), None


def _is_packed(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None
) -> bool:
    """Whether a decoder reads one packed sequence: each of its tokens looks at itself, which the
    padding of a single row does not."""
    return (
        mask is not None
        and mask.dtype == torch.bool
        and mask.shape == (1, 1, query.shape[2], key.shape[2])
        and query.shape[2] == key.shape[2]
        and bool(getattr(module, "is_causal", False))
        and bool(mask[0, 0].diagonal().all())
    )


def _remember_rows(mask: torch.Tensor) -> RowLayout:
    """The rows behind a mask; found once, for all layers get the same tensor."""
    layout = getattr(mask, "row_layout", None)
    if layout is None:
        layout = find_rows(mask[0, 0])
        mask.row_layout = layout
    return layout


def _gather(tensor: torch.Tensor, layout: RowLayout) -> torch.Tensor:
    """(1, heads, tokens, width) of a sequence as (rows, longest, heads, width)."""
    _, heads, tokens, width = tensor.shape
    states = tensor[0].transpose(0, 1).reshape(tokens, heads * width)
    # as a look-up, for its backward pass runs on all threads
    gathered = nn.functional.embedding(layout.indices, states)
    return gathered.view(*layout.indices.shape, heads, width)


def _attend_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    is_causal: bool,
) -> torch.Tensor:
    """Attention within rows, (rows, tokens, heads, width) each and so the result; in the form that
    is fastest for their format and length."""
    is_training = torch.is_grad_enabled()
    if query.dtype == torch.bfloat16 and is_training and query.shape[1] <= SHORT_ROWS:
        return attend_by_products(query, key, value, mask, scaling, is_causal)
    tensors = [tensor.transpose(1, 2) for tensor in (query, key, value)]
    if query.dtype == torch.bfloat16 and is_training:
        tensors = [tensor.float() for tensor in tensors]
    if mask is not None and mask.is_floating_point():
        mask = mask.to(tensors[0].dtype)
    with torch.autocast(query.device.type, enabled=False):
        output = nn.functional.scaled_dot_product_attention(
            *tensors, attn_mask=mask, scale=scaling, is_causal=is_causal, enable_gqa=True
        )
    return output.to(query.dtype).transpose(1, 2)


def attend_by_products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    is_causal: bool,
) -> torch.Tensor:
    """As `_attend_rows`, by two plain matrix products: query heads that share a key head are laid
    one below the other, so that keys need no copies."""
    rows, tokens, heads, width = query.shape
    groups = key.shape[2]
    shared = heads // groups
    query = query.view(rows, tokens, groups, shared, width).permute(0, 2, 3, 1, 4)
    query = query.reshape(rows * groups, shared * tokens, width) * scaling
    key = key.permute(0, 2, 3, 1).reshape(rows * groups, width, tokens)
    value = value.transpose(1, 2).reshape(rows * groups, tokens, width)
    scores = torch.bmm(query, key).view(rows, heads, tokens, tokens)
    scores = _mask_scores(scores, mask, is_causal)
    weights = scores.softmax(-1)
    output = torch.bmm(weights.view(rows * groups, shared * tokens, tokens), value)
    output = output.view(rows, groups, shared, tokens, width).permute(0, 3, 1, 2, 4)
    return output.reshape(rows, tokens, heads, width)


def _mask_scores(scores: torch.Tensor, mask: torch.Tensor | None, is_causal: bool) -> torch.Tensor:
    """Scores (rows, heads, tokens, tokens) with −∞ where a token may not look."""
    if is_causal:
        tokens = scores.shape[-1]
        future = torch.ones(tokens, tokens, dtype=torch.bool, device=scores.device).triu(1)
        return scores.masked_fill(future, float("-inf"))
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, float("-inf"))
    return scores + mask


AttentionInterface.register(FAST_ATTENTION, attend)
AttentionMaskInterface.register(FAST_ATTENTION, sdpa_mask)

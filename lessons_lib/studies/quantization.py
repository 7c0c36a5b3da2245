"""Weights rounded to a few bits and put back: what a format costs, whatever runs it.

Contract: a layer's weight is replaced by the numbers that its quantised form stands for, kept in 32
bits. So every format runs on every machine, at one speed, and two models differ in their weights
alone. It trains nothing.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import PeftModel
from torch import nn

BLOCK = 64  # weights that share a scale
ROW = 0  # a scale per row
HQQ = "hqq==0.2.8"


@dataclass(frozen=True)
class WeightFormat:
    """A way to store weights.

    bits: of a weight. block: how many weights share a scale; ROW is a whole row. scale_bits: what
    a block's scale (and offset) takes. round_weights: a weight (out, in) → what its stored form
    stands for, of the same shape, in fp32.
    """

    bits: int
    block: int
    scale_bits: float
    round_weights: Callable[[torch.Tensor], torch.Tensor]

    def count_bits(self, width: int) -> float:
        """Bits per weight, scales included, of a layer that reads `width` numbers.

        >>> FORMATS["nf4"].count_bits(576)
        4.5
        """
        return self.bits + self.scale_bits / (self.block or width)


def _keep(weight: torch.Tensor) -> torch.Tensor:
    return weight.float()


def _round_bf16(weight: torch.Tensor) -> torch.Tensor:
    return weight.bfloat16().float()


def _round_int8(weight: torch.Tensor) -> torch.Tensor:
    """Steps of 1/127 of each row's largest weight, as LLM.int8() stores them (Dettmers 2022)."""
    largest = weight.abs().amax(dim=1, keepdim=True)
    return (weight / largest * 127).round() / 127 * largest


def _round_bnb(weight: torch.Tensor, levels: str, *, double: bool = False) -> torch.Tensor:
    """The nearest of 16 levels, through bitsandbytes; double: the scales are quantised as well."""
    packed, state = quantize_4bit(
        weight.float().contiguous(), blocksize=BLOCK, quant_type=levels, compress_statistics=double
    )
    return dequantize_4bit(packed, state)


def _round_evenly(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Even steps between a block's smallest and largest weight."""
    blocks = weight.float().reshape(-1, BLOCK)
    smallest = blocks.amin(dim=1, keepdim=True)
    step = (blocks.amax(dim=1, keepdim=True) - smallest) / (2**bits - 1)
    rounded = ((blocks - smallest) / step).round() * step + smallest
    return rounded.reshape(weight.shape)


def _round_hqq(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Half-quadratic quantisation (Badri and Shaji 2023): even steps, with offsets that are moved
    so that few large errors matter less. It looks at no data."""
    quantizer = load_hqq()
    packed, meta = quantizer.quantize(
        weight.float(), nbits=bits, group_size=BLOCK, axis=1, device="cpu"
    )
    return quantizer.dequantize(packed, meta | {"compute_dtype": torch.float32})


def load_hqq() -> type:
    """HQQ's quantizer. Its package has no wheel and its set-up builds CUDA code, so no lesson needs
    it: it is installed here, without that, where it is missing."""
    try:
        from hqq.core.quantize import Quantizer
    except ModuleNotFoundError:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", HQQ, "termcolor"]
        subprocess.run(command, check=True, env=os.environ | {"DISABLE_CUDA": "1"})
        from hqq.core.quantize import Quantizer
    return Quantizer


FORMATS = {
    "fp32": WeightFormat(32, ROW, 0, _keep),
    "bf16": WeightFormat(16, ROW, 0, _round_bf16),
    "int8": WeightFormat(8, ROW, 32, _round_int8),
    "fp4": WeightFormat(4, BLOCK, 32, partial(_round_bnb, levels="fp4")),
    "nf4": WeightFormat(4, BLOCK, 32, partial(_round_bnb, levels="nf4")),
    # an 8-bit scale per block, and a 32-bit one for 256 of those
    "nf4_double": WeightFormat(
        4, BLOCK, 8 + 32 / 256, partial(_round_bnb, levels="nf4", double=True)
    ),
}
# a step and an offset per block, in 16 bits each
for _bits in (4, 3, 2):
    FORMATS[f"even{_bits}"] = WeightFormat(_bits, BLOCK, 32, partial(_round_evenly, bits=_bits))
    FORMATS[f"hqq{_bits}"] = WeightFormat(_bits, BLOCK, 32, partial(_round_hqq, bits=_bits))


def list_weights(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers that are quantised, by name: all in the network's blocks. The output layer
    and a classifier's head stay as they are, as bitsandbytes leaves them."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and ".layer" in name:
            yield name, module


@torch.no_grad()
def replace_weights(model: nn.Module, weight_format: WeightFormat) -> dict[str, float]:
    """Replaces the weights in place; `bits` per weight and `weight_error`, the length of all errors
    over the length of all weights."""
    bits = 0.0
    count = 0
    error = 0.0
    length = 0.0
    for _, layer in list_weights(model):
        rounded = weight_format.round_weights(layer.weight)
        bits += weight_format.count_bits(layer.in_features) * layer.weight.numel()
        count += layer.weight.numel()
        error += float((layer.weight.double() - rounded).square().sum())
        length += float(layer.weight.double().square().sum())
        layer.weight.copy_(rounded)
    return {"bits": bits / count, "weight_error": (error / length) ** 0.5}


@torch.no_grad()
def start_as_loftq(
    model: PeftModel,
    weights: dict[str, torch.Tensor],
    weight_format: WeightFormat,
    iterations: int = 5,
) -> float:
    """LoftQ (Li et al. 2023): base weights and LoRA start together, as the quantised weights and
    the low-rank matrices whose sum is near the exact `weights` (by layer's name). By turns, what
    LoRA does not hold is quantised, and LoRA takes the largest part of what that leaves.

    Returns what is left over, as `weight_error` counts it. PEFT's own moves the weights to a GPU.
    """
    error = 0.0
    length = 0.0
    for name, layer in model.base_model.model.named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        exact = weights[name]
        rank = layer.r["default"]
        low_rank = torch.zeros_like(exact)
        for _ in range(iterations):
            rounded = weight_format.round_weights(exact - low_rank)
            left, sizes, right = torch.svd_lowrank(exact - rounded, q=rank, niter=4)
            low_rank = left * sizes @ right.T
        share = (sizes / layer.scaling["default"]).sqrt()
        layer.base_layer.weight.copy_(rounded)
        layer.lora_B["default"].weight.copy_(left * share)
        layer.lora_A["default"].weight.copy_((right * share).T)
        error += float((exact - rounded - low_rank).double().square().sum())
        length += float(exact.double().square().sum())
    return (error / length) ** 0.5

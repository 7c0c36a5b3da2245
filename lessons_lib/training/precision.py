"""How a model computes while it trains: its number format, and LoRA layers that are faster than
PEFT's.

Contract: what `mixed_precision_lora` changes lasts as long as the `with` block; the model computes
the same function up to rounding, and its frozen weights come back bit-identical. It measures
nothing.
"""

import contextlib
import functools
from collections.abc import Iterator

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.bnb import Linear4bit as LoraLinear4bit
from torch import nn

from lessons_lib.hardware import Precision
from lessons_lib.models.attention import fast_attention


@contextlib.contextmanager
def mixed_precision_lora(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Prepares a model for training in `precision` while it lasts.

    LoRA layers compute by `LoraProduct`, and attention by `fast_attention`. In bf16, frozen linear
    layers are held in bf16, because autocast would convert them anew in every step; trained weights
    stay in fp32.
    """
    plain = [module for module in model.modules() if is_plain_lora(module)]
    for layer in plain:
        layer.forward = functools.partial(_compute_lora, layer, precision.torch_dtype)
    is_mixed = precision.dtype != "float32"
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(fast_attention(model))
            if is_mixed:
                stack.enter_context(hold_linear_layers(model, precision.torch_dtype))
                if any(isinstance(module, LoraLayer) for module in model.modules()):
                    # under autocast PEFT's own conversion to fp32 would be undone at once
                    stack.enter_context(disable_input_dtype_casting(model))
            yield
    finally:
        for layer in plain:
            del layer.forward


class LoraProduct(torch.autograd.Function):
    """x Wᵀ + b + s (x Aᵀ) Bᵀ for x (rows, in), W (out, in) frozen, A (r, in), B (out, r), s a
    number.

    PEFT writes the scaled product and the sum as tensors of their own, forwards and backwards:
    passes over (rows, out) numbers that cost as much as the thin products themselves. Here the
    matrix products add onto what is there. A weight in 4 bit is unpacked anew in each direction,
    and not kept.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, a, b, scaling):  # noqa: ANN001
        """The layer's output (rows, out)."""
        output = nn.functional.linear(x, _unpack(weight, x.dtype), bias)
        thin = x @ a.T
        ctx.save_for_backward(x, a, b, thin)
        # saved as above, a 4-bit weight would lose its scales
        ctx.weight = weight
        ctx.scaling = scaling
        return output.addmm_(thin, b.T, alpha=scaling)

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001
        """Gradients for x, A and B from that of the output; W and b are frozen."""
        x, a, b, thin = ctx.saved_tensors
        gradient = gradient.to(x.dtype)
        back = ctx.scaling * (gradient @ b)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ _unpack(ctx.weight, x.dtype)).addmm_(back, a)
        return to_x, None, None, back.T @ x, ctx.scaling * (gradient.T @ thin), None


def is_plain_lora(module: nn.Module) -> bool:
    """One adapter, no dropout, no variant such as DoRA, and a frozen linear layer below."""
    return (
        type(module) in (LoraLinear, LoraLinear4bit)
        and type(module.base_layer) in (nn.Linear, Linear4bit)
        and not any(p.requires_grad for p in module.base_layer.parameters())
        and module.active_adapters == ["default"]
        and isinstance(module.lora_dropout["default"], nn.Identity)
        and "default" not in module.lora_variant
        and not module.lora_bias["default"]
    )


def _compute_lora(
    layer: LoraLinear | LoraLinear4bit, dtype: torch.dtype, x: torch.Tensor
) -> torch.Tensor:
    if layer.disable_adapters:
        return type(layer).forward(layer, x)
    base = layer.base_layer
    bias = None if base.bias is None else base.bias.to(dtype)
    a, b = (part["default"].weight.to(dtype) for part in (layer.lora_A, layer.lora_B))
    rows = _cast_once(x, dtype).reshape(-1, x.shape[-1])
    output = LoraProduct.apply(rows, base.weight, bias, a, b, layer.scaling["default"])
    return output.view(*x.shape[:-1], -1)


def _cast_once(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`x` in `dtype`, converted once for all layers that read it (query, key and value; gate and
    up)."""
    if x.dtype == dtype:
        return x
    cast = getattr(x, "cast_for_lora", None)
    if cast is None or cast.dtype != dtype or cast.requires_grad != _is_recorded(x):
        cast = x.to(dtype)
        x.cast_for_lora = cast
    return cast


def _is_recorded(x: torch.Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def _unpack(weight: nn.Parameter, dtype: torch.dtype) -> torch.Tensor:
    """A frozen weight (out, in) in `dtype`, whether it is kept in 4 bit or not."""
    if isinstance(weight, Params4bit):
        weight = dequantize_4bit(weight.data, weight.quant_state)
    return weight.to(dtype)


@contextlib.contextmanager
def hold_linear_layers(
    model: nn.Module, dtype: torch.dtype, *, frozen_only: bool = True
) -> Iterator[None]:
    """Keeps the weights of linear layers in `dtype` while it lasts, because autocast would convert
    them anew in every batch; then they are what they were, to the bit.

    frozen_only: leaves out layers with weights that are trained. Weights that lose nothing in
    `dtype`, as those that were published in it, are not kept twice.
    """
    kept = {}
    lossless = []
    for parameter in _list_linear_weights(model, frozen_only):
        held = _convert(parameter.data, dtype)
        if torch.equal(held.float(), parameter.data):
            lossless.append(parameter)
        else:
            kept[parameter] = parameter.data
        parameter.data = held
    try:
        yield
    finally:
        for parameter, data in kept.items():
            parameter.data = data
        for parameter in lossless:
            parameter.data = _convert(parameter.data, torch.float32)


def _list_linear_weights(model: nn.Module, frozen_only: bool) -> Iterator[nn.Parameter]:
    """The parameters of linear layers that are in fp32."""
    for module in model.modules():
        if not isinstance(module, nn.Linear):
            continue
        if frozen_only and any(parameter.requires_grad for parameter in module.parameters()):
            continue
        for parameter in module.parameters():
            if parameter.dtype == torch.float32:
                yield parameter


def _convert(data: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # A weight made in inference mode could not be trained through ever after; but one that was
    # loaded in that mode must stay of its kind.
    with torch.inference_mode(data.is_inference()):
        return data.to(dtype)

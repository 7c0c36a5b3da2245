"""The forms of attention by shape and format: which is fastest in training, which in inference.

    make bench LESSON=attention

"fused" is PyTorch's scaled_dot_product_attention in the tensors' own format, "fused fp32" the same
on fp32 copies, "products" plain matrix products. "packed" is a sequence of packed rows: the fused
form under its mask against the same rows gathered and computed one by one. Milliseconds, median of
nine, forwards and backwards; inference forwards alone. `lessons_lib/models/attention.py` chooses by
what this shows.
"""

import statistics
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import nn

from lessons_lib.hardware import choose_precision
from lessons_lib.models import attention

# rows, tokens, heads, heads of keys, width
ENCODER = [(32, 27, 12, 12, 32), (32, 64, 12, 12, 32), (16, 128, 12, 12, 32), (8, 300, 12, 12, 32)]
DECODER = [(12, 35, 9, 3, 64), (12, 60, 9, 3, 64), (12, 100, 9, 3, 64), (12, 350, 9, 3, 64)]
PREFIX = 26  # tokens that packed rows share
ROUNDS = 9


def time_calls(function: Callable[[], None]) -> float:
    """The median milliseconds of a call."""
    function()
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def draw(rows: int, tokens: int, heads: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Random states (rows, tokens, heads, width) that want a gradient."""
    return torch.randn(rows, tokens, heads, width, dtype=dtype, requires_grad=True)


def measure_rows(shape: tuple[int, ...], dtype: torch.dtype, is_causal: bool) -> dict[str, float]:
    """The forms on ordinary rows."""
    rows, tokens, heads, key_heads, width = shape
    query = draw(rows, tokens, heads, width, dtype)
    key = draw(rows, tokens, key_heads, width, dtype)
    value = draw(rows, tokens, key_heads, width, dtype)
    mask = None if is_causal else torch.ones(rows, 1, tokens, tokens, dtype=torch.bool)

    def fused(in_fp32: bool) -> torch.Tensor:
        tensors = [tensor.transpose(1, 2) for tensor in (query, key, value)]
        if in_fp32:
            tensors = [tensor.float() for tensor in tensors]
        output = nn.functional.scaled_dot_product_attention(
            *tensors, attn_mask=mask, is_causal=is_causal, enable_gqa=True
        )
        return output.to(dtype)

    def products() -> torch.Tensor:
        return attention.attend_by_products(query, key, value, mask, width**-0.5, is_causal)

    forms = {
        "fused": lambda: fused(False),
        "fused fp32": lambda: fused(True),
        "products": products,
    }
    times = {}
    for name, form in forms.items():
        times[f"training, {name}"] = time_calls(lambda form=form: form().sum().backward())
    with torch.inference_mode():
        for name, form in forms.items():
            times[f"inference, {name}"] = time_calls(form)
    return times


def measure_packed(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, float]:
    """Packed rows that share a prefix, in training: under a mask, and row by row."""
    rows, tokens, heads, key_heads, width = shape
    own = tokens - PREFIX
    total = PREFIX + rows * own
    mask = torch.zeros(total, total, dtype=torch.bool)
    for row in range(rows):
        start = PREFIX + row * own
        places = torch.tensor([*range(PREFIX), *range(start, start + own)])
        mask[places[:, None], places[None]] |= torch.ones(tokens, tokens).tril().bool()
    mask = mask[None, None]
    query = draw(1, total, heads, width, dtype)
    key = draw(1, total, key_heads, width, dtype)
    value = draw(1, total, key_heads, width, dtype)
    module = nn.Identity()
    module.is_causal = True

    def masked() -> None:
        tensors = [tensor.transpose(1, 2).float() for tensor in (query, key, value)]
        output = nn.functional.scaled_dot_product_attention(
            *tensors, attn_mask=mask, enable_gqa=True
        )
        output.sum().backward()

    def by_row() -> None:
        tensors = [tensor.transpose(1, 2) for tensor in (query, key, value)]
        attention.attend(module, *tensors, mask)[0].sum().backward()

    return {"training, masked": time_calls(masked), "training, by row": time_calls(by_row)}


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(2)
    print(f"precision: {choose_precision().dtype}, {choose_precision().reason}")
    table = {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        for shape in ENCODER:
            table[f"encoder {shape[0]} × {shape[1]}", name] = measure_rows(shape, dtype, False)
        for shape in DECODER:
            table[f"decoder {shape[0]} × {shape[1]}", name] = measure_rows(shape, dtype, True)
            table[f"packed {shape[0]} × {shape[1]}", name] = measure_packed(shape, dtype)
    print(pd.DataFrame(table).T.round(2).to_string(na_rep=""))


if __name__ == "__main__":
    main()

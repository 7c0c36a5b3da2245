"""Formats of weights in the study of lesson 02: rounded, put back, and what LoRA starts from."""

import pytest
import torch

from lessons_lib import models
from lessons_lib.studies import quantization
from lessons_lib.studies.quantization import BLOCK, FORMATS
from lessons_lib.training.recipe import Recipe

TRIED = [name for name in FORMATS if "hqq" not in name]  # its package is installed for a study


def draw_weight():
    return torch.randn(96, 128, generator=torch.Generator().manual_seed(0)) * 0.05


def measure_error(name):
    weight = draw_weight()
    return float((FORMATS[name].round_weights(weight) - weight).norm() / weight.norm())


@pytest.mark.parametrize("name", [name for name in TRIED if FORMATS[name].bits <= 4])
def test_a_block_has_no_more_levels_than_its_bits_allow(name):
    """Failing means a format is credited with less memory than it would take."""
    rounded = FORMATS[name].round_weights(draw_weight())
    for block in rounded.reshape(-1, BLOCK):
        assert len(block.unique()) <= 2 ** FORMATS[name].bits


def test_fewer_bits_cost_more_error():
    """Failing means a format's rounding is broken, and a table of formats orders them by chance."""
    errors = [measure_error(name) for name in ("fp32", "bf16", "int8", "even4", "even3", "even2")]
    assert errors == sorted(errors)
    assert errors[0] == 0
    assert measure_error("nf4") < measure_error("fp4")
    assert measure_error("nf4") == pytest.approx(measure_error("nf4_double"), rel=0.01)


def test_bits_count_the_scales():
    """Failing means "4 bit" hides what scales take, which is half a bit or an eighth."""
    assert FORMATS["nf4"].count_bits(576) == 4.5
    assert FORMATS["nf4_double"].count_bits(576) == pytest.approx(4.127, abs=1e-3)
    assert FORMATS["int8"].count_bits(64) == 8.5


def test_replaced_weights_are_those_of_the_blocks_alone():
    """Failing means a format changes embeddings or heads as well, so its error is another one than
    that of a quantised model."""
    model, _ = models.load_classifier("tiny", seed=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    measured = quantization.replace_weights(model, FORMATS["even2"])
    changed = {
        name for name, weight in model.state_dict().items() if not weight.equal(before[name])
    }
    assert changed == {f"{name}.weight" for name, _ in quantization.list_weights(model)}
    squares = [(model.state_dict()[name] - before[name]).square().sum() for name in changed]
    total = sum(before[name].square().sum() for name in changed)
    assert measured["weight_error"] == pytest.approx(float((sum(squares) / total).sqrt()), rel=1e-4)


def test_loftq_starts_nearer_to_the_exact_weights():
    """Failing means LoRA starts as a correction of nothing, and "LoftQ" in the study is a name."""
    model, _ = models.load_classifier("tiny", seed=0)
    exact = {name: layer.weight.clone() for name, layer in quantization.list_weights(model)}
    rounded = quantization.replace_weights(model, FORMATS["even2"])["weight_error"]
    model = models.add_lora(model, Recipe(1e-3).lora_config(), seed=0)
    left = quantization.start_as_loftq(model, exact, FORMATS["even2"])
    assert left < 0.9 * rounded
    merged = model.merge_and_unload()
    squares = 0.0
    total = 0.0
    for name, layer in quantization.list_weights(merged):
        squares += float((layer.weight - exact[name]).detach().square().sum())
        total += float(exact[name].square().sum())
    assert (squares / total) ** 0.5 == pytest.approx(left, rel=1e-3)

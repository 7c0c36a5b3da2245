"""What makes training faster must not change what is computed."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers import hash_weights
from peft import LoraConfig
from torch import nn

from lessons_lib import evaluation, hardware, models, training
from lessons_lib.evaluation.likelihood import generate_answers
from lessons_lib.hardware import Precision
from lessons_lib.models import attention
from lessons_lib.models.attention import fast_attention
from lessons_lib.models.decoder import load_decoder
from lessons_lib.training import precision
from lessons_lib.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("each_precision")

BF16, FP32 = Precision("bfloat16", "the test says so"), Precision("float32", "the test says so")


def build(**changes):
    model = models.load_classifier("tiny", seed=3, dropout=0.0)[0]
    model = models.add_lora(model, Recipe(0.01, **changes).lora_config(), seed=3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)  # zero would hide what B does
    return model


def gradients(model):
    torch.manual_seed(0)
    ids = torch.randint(5, 300, (4, 12))
    model(
        input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.tensor([0, 1, 1, 0])
    ).loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_lora_product_gives_pefts_gradients():
    """Failing means the faster LoRA layer trains something else than PEFT's."""
    expected = gradients(build())
    model = build()
    with training.mixed_precision_lora(model, FP32):
        found = gradients(model)
    assert len(found) == 2 * 2 * 6 + 4  # A and B of six layers in two blocks, and the head's
    assert found.keys() == expected.keys()
    for name in found:
        assert torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-7), name


def count_saved_bytes(model):
    """Bytes that a forward pass keeps for the backward pass, each storage once."""
    sizes = {}

    def remember(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(5, 300, (4, 12), generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return sum(sizes.values()) if output.logits.requires_grad else 0


def test_lora_product_keeps_less_and_is_taken_out_again():
    """Failing means training needs PEFT's memory again, or PEFT's own layer stays replaced after
    it.
    """
    model = build()
    before = count_saved_bytes(model)
    with training.mixed_precision_lora(model, FP32):
        during = count_saved_bytes(model)
    assert during < before
    assert count_saved_bytes(model) == before


def test_adapter_can_be_disabled_while_computing_fast():
    """Failing means the base's answers are the adapter's: before and after look equal."""
    model = build()
    ids = torch.arange(5, 13)[None]
    with torch.inference_mode(), model.disable_adapter():
        expected = model(input_ids=ids).logits
        with training.mixed_precision_lora(model, FP32):
            assert torch.equal(model(input_ids=ids).logits, expected)


@pytest.mark.parametrize(
    "config", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}, {"lora_alpha": 0}]
)
def test_other_kinds_of_lora_keep_pefts_layer(config):
    """Failing means dropout, DoRA or a bias is silently dropped from training."""
    plain = config == {"lora_alpha": 0}
    model = models.add_lora(
        nn.Sequential(nn.Linear(8, 8)), LoraConfig(r=2, target_modules=["0"], **config), seed=0
    )
    assert [precision.is_plain_lora(module) for module in model.modules()].count(True) == plain


def test_frozen_weights_return_bit_identical():
    """Failing means bf16 training rounds the weights that were to stay as they were."""
    model = build()
    before = hash_weights(model)
    with training.mixed_precision_lora(model, BF16):
        lin1 = model.get_base_model().distilbert.transformer.layer[0].ffn.lin1
        assert lin1.base_layer.weight.dtype == torch.bfloat16
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert hash_weights(model) == before
    assert model.config._attn_implementation == "sdpa"


def test_bf16_gradients_are_near_those_of_fp32():
    """Failing means bf16 training runs but learns something else."""
    expected, model = gradients(build()), build()
    with training.mixed_precision_lora(model, BF16), torch.autocast("cpu", torch.bfloat16):
        found = gradients(model)
    for name in found:
        assert found[name].dtype == torch.float32
        assert (
            nn.functional.cosine_similarity(found[name].ravel(), expected[name].ravel(), 0) > 0.98
        ), name


def test_attention_of_an_encoder_equals_the_librarys():
    """Failing means the faster attention computes something else, such as reading padding."""
    model = models.load_classifier("tiny", seed=0)[0]
    ids = torch.randint(5, 300, (3, 16))
    mask = (torch.arange(16) < torch.tensor([[16], [7], [3]])).long()
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        with fast_attention(model):
            ours = model(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(ours, expected, atol=1e-6)
    assert model.config._attn_implementation == "sdpa"


def test_attention_of_one_padded_row_equals_the_librarys():
    """Failing means a decoder with a head stops at a batch of one row, or reads its padding."""
    model, _ = load_decoder("tiny")
    batch = training.pad_batch([{"input_ids": [5, 6, 7]}], pad_id=0)
    with torch.no_grad():
        expected = model(**batch).logits[0, :3]
        with fast_attention(model):
            ours = model(**batch).logits[0, :3]
    assert torch.allclose(ours, expected, atol=1e-5)


def test_a_model_that_has_embedded_texts_can_be_trained():
    """Failing means lesson 01 stops at its timings, wherever bf16 is fast."""
    model, _ = load_decoder("tiny")
    for parameter in model.parameters():  # as those of a model that was published in bf16
        parameter.data = parameter.data.bfloat16().float()
    evaluation.embed(model.get_decoder(), Dataset.from_dict({"input_ids": [[5, 6, 7]]}))
    adapted = models.add_lora(
        model.get_decoder(), LoraConfig(r=2, target_modules="all-linear"), seed=0
    )
    states = adapted(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state
    states.sum().backward()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


def test_a_model_that_was_loaded_in_inference_mode_can_embed():
    """Failing means lesson 02's study stops at its evaluation, wherever bf16 is fast."""
    with torch.inference_mode():
        model, _ = models.load_classifier("tiny", seed=0)
        rows = Dataset.from_dict({"input_ids": [[5, 6, 7]]})
        assert evaluation.embed(model.base_model, rows).shape[0] == 1


ATTENTION_SHAPES = {
    "encoder": (3, 4, 4, 12),  # rows, heads, key heads, tokens
    "long rows": (2, 2, 2, attention.SHORT_ROWS + 5),
    "decoder": (1, 6, 2, 12),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", ATTENTION_SHAPES.values(), ids=ATTENTION_SHAPES)
def test_every_form_of_attention_has_the_librarys_gradients(shape, dtype):
    """Failing means training learns something else for rows of some length, or in some format."""
    rows, heads, key_heads, tokens = shape
    torch.manual_seed(0)
    query = torch.randn(rows, heads, tokens, 8)
    key = torch.randn(rows, key_heads, tokens, 8)
    value = torch.randn(rows, key_heads, tokens, 8)
    mask = torch.ones(tokens, tokens).tril().bool()[None, None]
    if heads == key_heads:  # the last row is padded
        mask = torch.ones(rows, 1, tokens, tokens).bool()
        mask[-1, :, :, tokens // 2 :] = False
    expected = differentiate(
        lambda *tensors: nn.functional.scaled_dot_product_attention(
            *tensors, attn_mask=mask, enable_gqa=True
        ).transpose(1, 2),
        query,
        key,
        value,
    )
    module = nn.Identity()
    module.is_causal = heads != key_heads
    ours = differentiate(
        lambda *tensors: attention.attend(module, *tensors, mask)[0],
        query.to(dtype),
        key.to(dtype),
        value.to(dtype),
    )
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for mine, theirs in zip(ours, expected, strict=True):
        assert torch.allclose(mine.float(), theirs, atol=tolerance, rtol=tolerance)


def differentiate(function, *tensors):
    """The output and the gradients of its sum of squares."""
    inputs = [tensor.clone().requires_grad_() for tensor in tensors]
    output = function(*inputs)
    output.float().square().sum().backward()
    return [output.detach(), *(tensor.grad for tensor in inputs)]


@pytest.mark.parametrize("quantized", [False, True])
def test_a_decoder_answers_while_computing_in_bf16(quantized):
    """Failing means lesson 02 ends in an error after its training, wherever bf16 is fast."""
    recipe = training.FACTS if quantized else replace(training.FACTS, quantize="none")
    config = recipe.quantization_config()
    if quantized:
        config.bnb_4bit_compute_dtype = torch.bfloat16
    model, tokenizer = load_decoder("tiny", quantization_config=config)
    model = training.adapt(model, recipe, task_type="CAUSAL_LM", seed=0)
    with training.mixed_precision_lora(model, BF16):
        answers = generate_answers(
            model, tokenizer, ["one", "two words"], max_new_tokens=4, progress=False
        )
    assert [answer.tokens > 0 for answer in answers] == [True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_peak_memory_counts_from_where_it_was_reset():
    """Failing means the second seed of a study's arm is published with the first one's memory."""
    block = np.ones(40_000_000)  # 320 MB
    with_block = hardware.peak_memory_mb()
    del block
    hardware.free_memory()
    hardware.reset_peak_memory()
    assert hardware.peak_memory_mb() < with_block - 200

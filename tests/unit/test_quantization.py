"""Number formats: what is compared is what is claimed."""

import bitsandbytes.nn.modules as bnb_modules
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, LlamaConfig, TrainerCallback

from lessons_lib import data, evaluation, models, training
from lessons_lib.hardware import Precision

pytestmark = pytest.mark.usefixtures("each_precision")

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
LORA = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LLAMA_2_7B = LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    vocab_size=32000,
)


def load(**changes):
    return models.load_decoder("tiny", quantization_config=BitsAndBytesConfig(**NF4, **changes))


def build():
    model, tokenizer = load()
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = models.add_lora(model, LoraConfig(**LORA), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model, tokenizer


def test_training_happens_in_4_bit_and_reaches_lora_alone(tmp_path):
    """Failing means "4-bit training" trains unquantised or frozen weights."""
    model, tokenizer = build()
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    rows = training.encode_conversations([data.make_example("what", "a film")] * 8, tokenizer, 64)
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen.append(sum(isinstance(module, Linear4bit) for module in model.modules()))

    settings = training.TrainSettings(1e-2, 1, 4)
    training.train(
        model,
        rows,
        None,
        settings,
        task=training.ANSWERS,
        output_dir=tmp_path,
        callbacks=(Look(),),
        progress=False,
    )
    assert seen == [14, 14]  # q, k, v, o, gate, up and down in two layers, at both steps
    with_gradient = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(with_gradient) == 28
    assert all("lora_" in name for name in with_gradient)
    for name, before in frozen.items():
        assert torch.equal(model.get_parameter(name), before), name


def test_lora_product_on_4_bit_gives_pefts_gradients():
    """Failing means the faster LoRA layer trains something else than PEFT's on 4-bit weights."""
    model, tokenizer = build()
    batch = training.pack_batch(
        list(training.encode_conversations([data.make_example("what", "a film")], tokenizer, 64))
    )
    labels = batch.pop("labels")
    trained = [p for p in model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(training.answer_loss(model(**batch), labels), trained)
    with training.mixed_precision_lora(model, Precision("float32", "the test says so")):
        output = model(**batch)
        layer = model.get_base_model().model.layers[0].mlp.up_proj
        assert "forward" in vars(layer)
        found = torch.autograd.grad(training.answer_loss(output, labels), trained)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6)


def test_bf16_trains_4_bit_weights_like_fp32(tmp_path):
    """Failing means that on CPUs with fast bf16, and on GPUs, 4-bit training learns something
    else.
    """
    losses = {}
    for dtype in ("float32", "bfloat16"):
        model, tokenizer = build()
        rows = training.encode_conversations(
            [data.make_example("what", "a film"), data.make_example("who", "a hero")] * 8,
            tokenizer,
            64,
        )
        settings = training.TrainSettings(1e-2, 1, 4)
        precision = Precision(dtype, "the test says so")
        options = {"output_dir": tmp_path / dtype, "precision": precision, "progress": False}
        result = training.train(model, rows, None, settings, task=training.ANSWERS, **options)
        losses[dtype] = result.history["loss"].dropna().tolist()
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["float32"][-1] < losses["float32"][0]


@pytest.mark.parametrize(
    "load_model",
    [
        lambda config: models.load_decoder("tiny", quantization_config=config),
        lambda config: models.load_classifier("tiny", seed=0, quantization_config=config),
        lambda config: models.load_classifier("tiny:decoder", seed=0, quantization_config=config),
    ],
    ids=["decoder", "encoder with a head", "decoder with a head"],
)
def test_four_bit_weights_are_never_repacked(monkeypatch, load_model):
    """Failing means that on a CPU with AVX512_BF16 a lesson stops, or trains on weights read
    wrongly.
    """
    monkeypatch.setattr(bnb_modules, "has_avx512bf16", lambda: True)
    model, _ = load_model(BitsAndBytesConfig(**NF4))
    flags = [m.support_avx512bf16_for_cpu for m in model.modules() if isinstance(m, Linear4bit)]
    assert len(flags) >= 12
    assert not any(flags)


def test_such_a_cpu_would_repack_them(monkeypatch):
    """Failing means the test above cannot fail: bitsandbytes asks for the CPU in another way."""
    monkeypatch.setattr(bnb_modules, "has_avx512bf16", lambda: True)
    assert Linear4bit(64, 64).support_avx512bf16_for_cpu


def test_bytes_of_int8_are_counted():
    """Failing means the table of formats breaks off at int8."""
    eight, _ = models.load_decoder(
        "tiny", quantization_config=BitsAndBytesConfig(load_in_8bit=True)
    )
    packed = sum(p.nbytes for p in eight.parameters())
    assert packed < models.count_bytes(eight) < 1.1 * packed


def test_adapter_survives_saving_and_is_needed(tmp_path):
    """Failing means a saved adapter is lost on reloading, and nobody notices."""
    model, tokenizer = build()
    model.eval().save_pretrained(tmp_path)
    asked = (tokenizer, ["the film was"], [["good", "bad"]])
    ours = evaluation.score_choices(model, *asked, progress=False)
    fresh, _ = load()
    without = evaluation.score_choices(fresh, *asked, progress=False)
    reloaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    assert evaluation.score_choices(reloaded, *asked, progress=False) == pytest.approx(
        ours, abs=1e-5
    )
    assert without != pytest.approx(ours, abs=1e-3)


def test_scales_count_as_weights():
    """Failing means 4-bit models are said to be smaller than they are."""
    plain, double = (
        models.count_bytes(load(bnb_4bit_use_double_quant=nested)[0]) for nested in (False, True)
    )
    packed = sum(p.nbytes for p in load()[0].parameters())
    assert packed < double < plain


def test_llama_2_needs_what_was_published():
    """Failing means the memory estimator is off: 4-bit weights of Llama-2-7B take about 3.9 GB."""
    shape = {"lora": LoraConfig(**LORA), "batch_size": 1, "tokens": 1, "weight_bytes": 2}
    whole = models.estimate_memory(LLAMA_2_7B, **shape)
    packed = models.estimate_memory(LLAMA_2_7B, linear_bytes=4.127 / 8, **shape)
    lora = whole["gradients"]  # as large as LoRA's own fp32 weights
    assert whole["weights"] - lora == pytest.approx(2 * 6738, rel=0.001)
    assert packed["weights"] - lora == pytest.approx(3900, rel=0.02)

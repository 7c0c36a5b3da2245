"""How many parameters a model has, and how much memory its fine-tuning will need."""

import copy
from dataclasses import dataclass

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from lessons_lib.models.classifier import load_config

HEAD = ("pre_classifier", "classifier")  # the layers DistilBERT adds on top for classification


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters; `head` is the classifier, which every method trains and none calls
    LoRA.
    """

    total: int
    lora: int
    head: int
    base_trainable: int

    @property
    def trainable(self) -> int:
        """All that training moves."""
        return self.lora + self.head + self.base_trainable


def count_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights, with the scales that 4-bit and 8-bit ones need."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt  # only quantised models need it

    total = sum(parameter.nbytes for parameter in model.parameters())
    for module in model.modules():
        if isinstance(module, Linear4bit):
            state = module.weight.quant_state
            total += state.absmax.nbytes
            total += state.state2.absmax.nbytes if state.nested else 0
        elif isinstance(module, Linear8bitLt):
            total += module.weight.SCB.nbytes
    return total


def count_parameters(model: nn.Module) -> ParameterCount:
    """Parameters in total and trainable, with those of LoRA (or IA3) and of the head counted
    apart."""
    lora = head = base = total = 0
    for name, parameter in model.named_parameters():
        # PEFT keeps the head's first draw
        total += 0 if "original_module" in name else parameter.numel()
        if not parameter.requires_grad:
            continue
        if "lora_" in name or "ia3_" in name:
            lora += parameter.numel()
        elif any(part in (*HEAD, "score") for part in name.split(".")):
            head += parameter.numel()
        else:
            base += parameter.numel()
    return ParameterCount(total, lora, head, base)


def estimate_memory(
    model: str | transformers.PretrainedConfig,
    *,
    lora: LoraConfig | None,
    batch_size: int,
    tokens: int,
    weight_bytes: float = 4,
    linear_bytes: float | None = None,
) -> dict[str, float]:
    """MB (10⁶ bytes) that fine-tuning will need, by purpose, from a model's name or configuration
    alone.

    lora: None for full fine-tuning; its task_type "CAUSAL_LM" makes the model a decoder, else it is
    a classifier. weight_bytes: 4 for fp32, 2 for bf16; linear_bytes: those of frozen linear layers
    where they are quantised. Trained parameters count 4 bytes each for the gradient and 8 for
    AdamW's two moments. Activations are what the backward pass keeps in a transformer layer with
    fused attention: about 20 values of the hidden width a token.
    """
    config = load_config(model) if isinstance(model, str) else model
    causal = lora is not None and lora.task_type == "CAUSAL_LM"
    loader = (
        transformers.AutoModelForCausalLM
        if causal
        else transformers.AutoModelForSequenceClassification
    )
    with torch.device("meta"):
        built = loader.from_config(config)
        layers = {m for m in built.modules() if isinstance(m, nn.Linear)} - {
            built.get_output_embeddings()
        }
        linear = sum(layer.weight.numel() for layer in layers)
        built = get_peft_model(built, copy.deepcopy(lora)) if lora else built
    count = count_parameters(built)
    values = batch_size * tokens * config.hidden_size * config.num_hidden_layers * 20
    frozen = (count.total - count.trainable) * weight_bytes
    if linear_bytes is not None:
        frozen += linear * (linear_bytes - weight_bytes)
    parts = {
        "weights": (frozen + count.trainable * 4) / 1e6,
        "gradients": count.trainable * 4 / 1e6,
        "optimizer": count.trainable * 8 / 1e6,
        "activations": values * weight_bytes / 1e6,
    }
    return {**parts, "total": sum(parts.values())}

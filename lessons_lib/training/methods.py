"""Relatives of LoRA, as PEFT has them, so that a recipe can name one: `Recipe(method="dora")`.

Contract: a method says what is trained and how it starts. Rank, layers and learning rate are the
recipe's. It trains nothing itself.
"""

import torch
from peft import IA3Config, LoraConfig, PeftConfig
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer
from torch import nn
from transformers import PreTrainedModel

from lessons_lib.errors import SettingError
from lessons_lib.models.lora import add_lora
from lessons_lib.models.memory import HEAD

# Settings of PEFT's LoraConfig that make a relative of LoRA.
LORA_OPTIONS = {
    "lora": {},
    "rslora": {"use_rslora": True},  # scales by alpha / √r (Kalajdzievski 2023)
    "dora": {"use_dora": True},  # trains a weight's length apart from its direction (Liu 2024)
    "pissa": {"init_lora_weights": "pissa_niter_4"},  # starts from W's largest parts (Meng 2024)
    "olora": {"init_lora_weights": "olora"},  # starts from orthonormal matrices (Büyükakyüz 2024)
    "lorafa": {},  # A stays as it was drawn (Zhang 2023); see `choose_optimizer`
    "loraplus": {},  # B learns faster than A (Hayou 2024); see `choose_optimizer`
    "upper_half": {},  # LoRA on the upper half of the layers alone
}
METHODS = (*LORA_OPTIONS, "ia3", "bitfit")
LORAPLUS_RATIO = 16.0  # the rate of B over that of A, as its authors advise


def add_method(model: PreTrainedModel, method: str, config: LoraConfig, seed: int) -> nn.Module:
    """The model with what `method` trains, drawn from `seed`; all else is frozen but the head.

    config: the recipe's LoRA; methods without a rank take its layers. Raises SettingError for a
    method that there is not.
    """
    if method not in METHODS:
        raise SettingError(f"there is no method {method!r}.", remedy=f"one of {list(METHODS)}.")
    if method == "bitfit":
        return _train_biases(model)
    if method == "ia3":
        return add_lora(model, _scale_activations(config), seed=seed)
    for option, value in LORA_OPTIONS[method].items():
        setattr(config, option, value)
    if method == "upper_half":
        layers = model.config.num_hidden_layers
        config.layers_to_transform = list(range(layers // 2, layers))
        config.layers_pattern = "layer"
    return add_lora(model, config, seed=seed)


def choose_optimizer(
    model: nn.Module, method: str, learning_rate: float
) -> torch.optim.Optimizer | None:
    """The optimizer that a method needs; None for those that take the Trainer's own, AdamW."""
    if method == "loraplus":
        return create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=learning_rate, loraplus_lr_ratio=LORAPLUS_RATIO
        )
    if method == "lorafa":
        config = model.peft_config["default"]
        return create_lorafa_optimizer(model, config.r, config.lora_alpha, learning_rate)
    return None


def _train_biases(model: PreTrainedModel) -> PreTrainedModel:
    """BitFit (Ben Zaken et al. 2022): the biases and the head are trained."""
    for name, parameter in model.named_parameters():
        in_head = any(part in HEAD for part in name.split("."))
        parameter.requires_grad_(in_head or name.endswith(".bias"))
    return model


def _scale_activations(config: LoraConfig) -> PeftConfig:
    """IA3 (Liu et al. 2022): a factor for each output of the keys, the values and the first layer
    of the feed-forward part, whatever layers the recipe adapts."""
    return IA3Config(
        task_type=config.task_type,
        target_modules=["k_lin", "v_lin", "lin2"],
        feedforward_modules=["lin2"],
    )

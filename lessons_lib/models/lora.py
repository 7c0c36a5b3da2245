"""LoRA layers, drawn from a seed."""

import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import set_seed


def add_lora(model: transformers.PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """The model with LoRA layers drawn from `seed`; base weights frozen, the head trained in full.

    PEFT draws the matrices A here, before any Trainer sets a seed, so the seed is set here too.
    """
    set_seed(seed)
    return get_peft_model(model, config)

"""A fine-tuning recipe for a classifier in one value, and the function that carries it out.

Contract: `fine_tune` does what lesson 04 does step by step: load, adapt, train. The lessons state
their recipes in plain sight; studies call the same function with the same values.
"""

from dataclasses import dataclass
from pathlib import Path

from datasets import DatasetDict
from peft import LoraConfig, prepare_model_for_kbit_training
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedTokenizerBase

from lessons_lib.hardware import Precision
from lessons_lib.models.classifier import load_classifier
from lessons_lib.models.lora import add_lora
from lessons_lib.models.memory import ParameterCount, count_parameters
from lessons_lib.training.batches import tokenize_reviews
from lessons_lib.training.trainer import TrainResult, TrainSettings, train

# Lesson 02's recipe, for facts taught to a decoder: its learning rate, batch size and warm-up were
# chosen on terms of the ontology that no lesson and no study asks.
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
FACTS_LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
FACTS_SETTINGS = {"learning_rate": 1.5e-3, "epochs": 1, "batch_size": 12, "warmup": 0.06}
ATTENTION = ("q_lin", "k_lin", "v_lin", "out_lin")
FEED_FORWARD = ("lin1", "lin2")


@dataclass(frozen=True)
class Recipe:
    """How a classifier is fine-tuned. `rank` 0 means full fine-tuning; `targets` are the layers
    LoRA adapts; `dropout` is the encoder's (None: as published), `lora_dropout` LoRA's own;
    `pooling` is what the head reads: "cls" or "mean"; `precision` "auto" or "float32"; the rest as
    in TrainSettings."""

    learning_rate: float
    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ATTENTION + FEED_FORWARD
    lora_dropout: float = 0.0
    dropout: float | None = 0.0
    pooling: str = "cls"
    epochs: int = 3
    batch_size: int = 16
    warmup: float = 0.0
    averaging: float = 0.0
    precision: str = "auto"

    def lora_config(self) -> LoraConfig:
        """PEFT's configuration of this recipe's LoRA."""
        return LoraConfig(
            task_type="SEQ_CLS",
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.targets),
            lora_dropout=self.lora_dropout,
        )


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned classifier, its tokenizer, what it cost and how many parameters moved."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    result: TrainResult
    count: ParameterCount


def fine_tune(
    recipe: Recipe,
    encoder: str,
    splits: DatasetDict,
    *,
    max_tokens: int,
    seed: int,
    output_dir: str | Path,
    quantization_config: BitsAndBytesConfig | None = None,
    **train_options: object,
) -> FineTuned:
    """Loads `encoder` (or a decoder), adapts it and trains it on `splits` (columns text, label) by
    `recipe`. Validation is only logged.

    quantization_config: how frozen weights are kept. train_options go to `train` (report_to, …).
    """
    model, tokenizer = load_classifier(
        encoder,
        seed=seed,
        dropout=recipe.dropout,
        pooling=recipe.pooling,
        class_names=splits["train"].features["label"].names,
        quantization_config=quantization_config,
    )
    if quantization_config:
        model = prepare_model_for_kbit_training(
            model, gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    if recipe.rank:
        model = add_lora(model, recipe.lora_config(), seed=seed)
    rows = tokenize_reviews(splits, tokenizer, max_tokens)
    settings = TrainSettings(
        recipe.learning_rate,
        recipe.epochs,
        recipe.batch_size,
        seed,
        warmup=recipe.warmup,
        averaging=recipe.averaging,
    )
    if recipe.precision != "auto":
        train_options["precision"] = Precision(recipe.precision, "the recipe says so")
    result = train(
        model,
        rows["train"],
        rows["validation"],
        settings,
        output_dir=output_dir,
        **train_options,
    )
    return FineTuned(model, tokenizer, result, count_parameters(model))

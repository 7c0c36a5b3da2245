"""A fine-tuning recipe in one value, for classifiers and decoders, and what carries it out.

Contract: a recipe says everything that a run depends on but the model, the rows and the seed. The
two `fine_tune_…` functions do what the lessons do step by step: load, quantise, add LoRA, tokenise,
train. The lessons state their recipes in plain sight; studies call the same functions with the same
values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from datasets import DatasetDict
from peft import LoraConfig, prepare_model_for_kbit_training
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib.data.facts import Conversation
from lessons_lib.errors import SettingError
from lessons_lib.hardware import Precision, choose_precision
from lessons_lib.models.classifier import load_classifier
from lessons_lib.models.decoder import load_decoder
from lessons_lib.models.memory import ParameterCount, count_parameters
from lessons_lib.training.batches import tokenize_reviews
from lessons_lib.training.conversations import encode_conversations
from lessons_lib.training.methods import add_method, choose_optimizer
from lessons_lib.training.tasks import ANSWERS, classification
from lessons_lib.training.trainer import TrainResult, TrainSettings, estimate_seconds, train

ATTENTION = ("q_lin", "k_lin", "v_lin", "out_lin")
FEED_FORWARD = ("lin1", "lin2")
QUANTIZERS = {
    "none": {},
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    },
    "int8": {"load_in_8bit": True},
}


@dataclass(frozen=True, repr=False)
class Recipe:
    """How a classifier or a decoder is fine-tuned.

    learning_rate: AdamW's; it rises over `warmup` (a share of all steps) and falls linearly to 0.
    rank: LoRA's; 0 means full fine-tuning. alpha: LoRA's product is scaled by alpha / rank.
    targets: the layers that LoRA adapts, by name, or "all-linear". lora_dropout: LoRA's own.
    dropout: the classifier's (None: as it was published; a decoder keeps its own). pooling: what a
    classifier's head reads, "cls" or "mean". ema_decay: above 0, training ends with an exponential
    moving average of the weights. precision: "auto" or "float32". quantize: how frozen weights are
    kept, one of QUANTIZERS. method: LoRA itself, or one of its relatives (see `METHODS`).
    """

    learning_rate: float
    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] | str = ATTENTION + FEED_FORWARD
    lora_dropout: float = 0.0
    dropout: float | None = 0.0
    pooling: str = "cls"
    epochs: int = 3
    batch_size: int = 16
    warmup: float = 0.0
    ema_decay: float = 0.0
    precision: str = "auto"
    quantize: str = "none"
    method: str = "lora"

    def __repr__(self) -> str:
        """What differs from the defaults, so that a new field changes no old recipe's text."""
        shown = [f"learning_rate={self.learning_rate!r}"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "learning_rate" and value != field.default:
                shown.append(f"{field.name}={value!r}")
        return f"Recipe({', '.join(shown)})"

    def lora_config(self, task_type: str = "SEQ_CLS") -> LoraConfig:
        """PEFT's configuration of this recipe's LoRA; task_type: "SEQ_CLS" or "CAUSAL_LM"."""
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        return LoraConfig(
            task_type=task_type,
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=targets,
            lora_dropout=self.lora_dropout,
        )

    def quantization_config(self) -> BitsAndBytesConfig | None:
        """How bitsandbytes keeps the frozen weights; None where they are not quantised. Raises
        SettingError for a `quantize` that there is not."""
        if self.quantize not in QUANTIZERS:
            raise SettingError(
                f"there is no quantize={self.quantize!r}.",
                remedy=f"one of {', '.join(QUANTIZERS)}.",
            )
        options = dict(QUANTIZERS[self.quantize])
        if not options:
            return None
        if self.quantize == "nf4":
            options["bnb_4bit_compute_dtype"] = choose_precision().torch_dtype
        return BitsAndBytesConfig(**options)

    def train_settings(self, seed: int) -> TrainSettings:
        """What `train` needs to know of this recipe."""
        return TrainSettings(
            self.learning_rate,
            self.epochs,
            self.batch_size,
            seed,
            warmup=self.warmup,
            ema_decay=self.ema_decay,
        )

    def train_precision(self) -> Precision:
        """The number format that the recipe trains in on this machine."""
        if self.precision == "auto":
            return choose_precision()
        return Precision(self.precision, "the recipe says so")


# Lesson 02's recipe, for facts taught to a decoder: its learning rate, batch size and warm-up were
# chosen on terms of the ontology that no lesson and no study asks.
FACTS = Recipe(
    learning_rate=1.5e-3,
    rank=16,
    alpha=32,
    targets="all-linear",
    epochs=1,
    batch_size=12,
    warmup=0.06,
    quantize="nf4",
)


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model, its tokenizer, what it cost and how many parameters moved."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    result: TrainResult
    count: ParameterCount


def adapt(
    model: PreTrainedModel,
    recipe: Recipe,
    *,
    task_type: str,
    seed: int,
    gradient_checkpointing: bool = False,
) -> nn.Module:
    """The model made ready for training: quantised weights frozen, LoRA added by `recipe`.

    task_type: as in `Recipe.lora_config`. gradient_checkpointing: states of quantised models are
    computed again in the backward pass instead of being kept; slower, and smaller.
    """
    if recipe.quantize != "none":
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    if recipe.rank:
        model = add_method(model, recipe.method, recipe.lora_config(task_type), seed)
    return model


def prepare_classifier(
    recipe: Recipe,
    name: str,
    class_names: list[str],
    *,
    seed: int,
    gradient_checkpointing: bool = False,
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """The classifier `name` with a fresh head for these classes, ready for training by `recipe`,
    and its tokenizer. gradient_checkpointing: as in `adapt`."""
    model, tokenizer = load_classifier(
        name,
        seed=seed,
        dropout=recipe.dropout,
        pooling=recipe.pooling,
        class_names=class_names,
        quantization_config=recipe.quantization_config(),
    )
    model = adapt(
        model,
        recipe,
        task_type="SEQ_CLS",
        seed=seed,
        gradient_checkpointing=gradient_checkpointing,
    )
    return model, tokenizer


def fine_tune_classifier(
    recipe: Recipe,
    name: str,
    splits: DatasetDict,
    *,
    max_tokens: int,
    seed: int,
    output_dir: str | Path,
    class_weights: list[float] | None = None,
    gradient_checkpointing: bool = False,
    **train_options: object,
) -> FineTuned:
    """Loads the model `name` with a fresh head and trains it on `splits` (train and validation,
    with columns text and label) by `recipe`. Validation is only logged.

    class_weights: as in `classification`. train_options go to `train` (report_to, …).
    """
    model, tokenizer = prepare_classifier(
        recipe,
        name,
        splits["train"].features["label"].names,
        seed=seed,
        gradient_checkpointing=gradient_checkpointing,
    )
    rows = tokenize_reviews(splits, tokenizer, max_tokens)
    result = train(
        model,
        rows["train"],
        rows["validation"],
        recipe.train_settings(seed),
        task=classification(model, class_weights),
        optimizer=choose_optimizer(model, recipe.method, recipe.learning_rate),
        precision=recipe.train_precision(),
        output_dir=output_dir,
        **train_options,
    )
    return FineTuned(model, tokenizer, result, count_parameters(model))


def describe_duration(
    recipes: Sequence[Recipe], name: str, splits: DatasetDict, *, max_tokens: int, minutes: int
) -> str:
    """How many minutes trainings of the classifier `name` by these recipes will take on this
    machine, and how many of the training rows would keep them within `minutes`. Measured: four
    steps of each recipe on a model that is let go of.
    """
    seconds_by_recipe = {}
    for recipe in set(recipes):
        class_names = splits["train"].features["label"].names
        model, tokenizer = prepare_classifier(recipe, name, class_names, seed=0)
        seconds_by_recipe[recipe] = estimate_seconds(
            model,
            tokenize_reviews(splits["train"], tokenizer, max_tokens),
            recipe.train_settings(seed=0),
            task=classification(model),
            precision=recipe.train_precision(),
        )
    seconds = sum(seconds_by_recipe[recipe] for recipe in recipes)
    rows = len(splits["train"])
    sentence = (
        f"{len(recipes)} trainings on {rows:,} rows will take about "
        f"{max(1, round(seconds / 60))} minutes on this machine"
    )
    if seconds <= 60 * minutes:
        return f"{sentence}."
    return f"{sentence}; {int(rows * 60 * minutes / seconds):,} rows would keep it to {minutes}."


def fine_tune_decoder(
    recipe: Recipe,
    name: str,
    conversations: Sequence[Conversation],
    *,
    max_tokens: int,
    seed: int,
    output_dir: str | Path,
    gradient_checkpointing: bool = False,
    **train_options: object,
) -> FineTuned:
    """Loads the decoder `name` and trains it on the answers of `conversations` by `recipe`.

    train_options go to `train`.
    """
    model, tokenizer = load_decoder(name, quantization_config=recipe.quantization_config())
    model = adapt(
        model,
        recipe,
        task_type="CAUSAL_LM",
        seed=seed,
        gradient_checkpointing=gradient_checkpointing,
    )
    return train_decoder(
        recipe,
        model,
        tokenizer,
        conversations,
        max_tokens=max_tokens,
        seed=seed,
        output_dir=output_dir,
        **train_options,
    )


def train_decoder(
    recipe: Recipe,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    *,
    max_tokens: int,
    seed: int,
    output_dir: str | Path,
    **train_options: object,
) -> FineTuned:
    """Trains a decoder that has its adapter already, in place: for the first time, or once more."""
    rows = encode_conversations(conversations, tokenizer, max_tokens)
    result = train(
        model,
        rows,
        None,
        recipe.train_settings(seed),
        task=ANSWERS,
        precision=recipe.train_precision(),
        output_dir=output_dir,
        **train_options,
    )
    return FineTuned(model, tokenizer, result, count_parameters(model))

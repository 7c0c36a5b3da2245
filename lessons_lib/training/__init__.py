"""Fine-tuning: rows and batches, the recipe, the trainer, precision, checkpoints, tracking."""

from lessons_lib.training.batches import (
    CHUNK_BATCHES,
    LengthBucketSampler,
    pad_batch,
    tokenize_reviews,
)
from lessons_lib.training.checkpoints import describe_run, prepare_checkpoints
from lessons_lib.training.conversations import (
    IGNORED,
    SHORTEN,
    SHOWN_LONG,
    TOO_LONG,
    check_labels,
    drop_long_terms,
    encode_dialogs,
    find_fitting,
)
from lessons_lib.training.ema import WeightAverage, trained_parameters
from lessons_lib.training.packing import FlatRows, answer_loss, flatten_batch, flatten_rows
from lessons_lib.training.precision import FP32_ATTENTION, LoraProduct, attend_in_fp32, compute_in
from lessons_lib.training.recipe import (
    ATTENTION,
    FACTS_LORA,
    FACTS_SETTINGS,
    FEED_FORWARD,
    NF4,
    FineTuned,
    Recipe,
    fine_tune,
)
from lessons_lib.training.settings import TrainSettings
from lessons_lib.training.tracking import TRACKERS, WANDB_REMEDY, WANDB_SECONDS, prepare_tracking
from lessons_lib.training.trainer import (
    FIRST_STEPS,
    TrainResult,
    build_arguments,
    tabulate_history,
    train,
)

__all__ = [
    "ATTENTION",
    "CHUNK_BATCHES",
    "FACTS_LORA",
    "FACTS_SETTINGS",
    "FEED_FORWARD",
    "FIRST_STEPS",
    "FP32_ATTENTION",
    "IGNORED",
    "NF4",
    "SHORTEN",
    "SHOWN_LONG",
    "TOO_LONG",
    "TRACKERS",
    "WANDB_REMEDY",
    "WANDB_SECONDS",
    "FineTuned",
    "FlatRows",
    "LengthBucketSampler",
    "LoraProduct",
    "Recipe",
    "TrainResult",
    "TrainSettings",
    "WeightAverage",
    "answer_loss",
    "attend_in_fp32",
    "build_arguments",
    "check_labels",
    "compute_in",
    "describe_run",
    "drop_long_terms",
    "encode_dialogs",
    "find_fitting",
    "fine_tune",
    "flatten_batch",
    "flatten_rows",
    "pad_batch",
    "prepare_checkpoints",
    "prepare_tracking",
    "tabulate_history",
    "tokenize_reviews",
    "train",
    "trained_parameters",
]

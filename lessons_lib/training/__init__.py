"""Fine-tuning: rows and batches, the recipe, the trainer, precision, checkpoints, tracking."""

from lessons_lib.training.batches import LengthBucketSampler, pad_batch, tokenize_reviews
from lessons_lib.training.conversations import (
    IGNORED,
    check_labels,
    drop_long_terms,
    encode_dialogs,
    find_fitting,
)
from lessons_lib.training.ema import WeightAverage
from lessons_lib.training.packing import answer_loss, flatten_batch
from lessons_lib.training.precision import FP32_ATTENTION, compute_in
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
from lessons_lib.training.tracking import prepare_tracking
from lessons_lib.training.trainer import TrainResult, build_arguments, train

__all__ = [
    "ATTENTION",
    "FACTS_LORA",
    "FACTS_SETTINGS",
    "FEED_FORWARD",
    "FP32_ATTENTION",
    "IGNORED",
    "NF4",
    "FineTuned",
    "LengthBucketSampler",
    "Recipe",
    "TrainResult",
    "TrainSettings",
    "WeightAverage",
    "answer_loss",
    "build_arguments",
    "check_labels",
    "compute_in",
    "drop_long_terms",
    "encode_dialogs",
    "find_fitting",
    "fine_tune",
    "flatten_batch",
    "pad_batch",
    "prepare_tracking",
    "tokenize_reviews",
    "train",
]

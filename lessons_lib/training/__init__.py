"""Fine-tuning: rows and batches, tasks, recipes, the trainer, precision, checkpoints, tracking."""

from lessons_lib.training.batches import (
    LengthBucketSampler,
    choose_max_tokens,
    count_tokens,
    cut_into_parts,
    describe_truncation,
    pad_batch,
    tokenize_reviews,
)
from lessons_lib.training.conversations import (
    IGNORED,
    check_labels,
    drop_long_terms,
    encode_conversations,
    find_fitting,
)
from lessons_lib.training.ema import WeightEma
from lessons_lib.training.monitoring import ResourceMonitor, describe_resources
from lessons_lib.training.packing import answer_loss, pack_batch
from lessons_lib.training.precision import mixed_precision_lora
from lessons_lib.training.recipe import (
    ATTENTION,
    FACTS,
    FEED_FORWARD,
    FineTuned,
    Recipe,
    adapt,
    describe_duration,
    fine_tune_classifier,
    fine_tune_decoder,
    train_decoder,
)
from lessons_lib.training.settings import TrainSettings
from lessons_lib.training.tasks import ANSWERS, Task, classification
from lessons_lib.training.tracking import prepare_tracking
from lessons_lib.training.trainer import TrainResult, build_arguments, estimate_seconds, train
from lessons_lib.training.wandb_record import RecordError, read_wandb_run

__all__ = [
    "ANSWERS",
    "ATTENTION",
    "FACTS",
    "FEED_FORWARD",
    "IGNORED",
    "FineTuned",
    "LengthBucketSampler",
    "Recipe",
    "RecordError",
    "ResourceMonitor",
    "Task",
    "TrainResult",
    "TrainSettings",
    "WeightEma",
    "adapt",
    "answer_loss",
    "build_arguments",
    "check_labels",
    "choose_max_tokens",
    "classification",
    "count_tokens",
    "cut_into_parts",
    "describe_duration",
    "describe_resources",
    "describe_truncation",
    "drop_long_terms",
    "encode_conversations",
    "estimate_seconds",
    "find_fitting",
    "fine_tune_classifier",
    "fine_tune_decoder",
    "mixed_precision_lora",
    "pack_batch",
    "pad_batch",
    "prepare_tracking",
    "read_wandb_run",
    "tokenize_reviews",
    "train",
    "train_decoder",
]

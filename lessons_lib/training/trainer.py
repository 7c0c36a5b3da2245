"""One `train`, built on the Hugging Face Trainer.

Contract: the same seed gives the same weights; a run that was killed and resumed gives the weights
of the uninterrupted one; frozen weights come back bit-identical. What it adds to the plain Trainer:
batches of like length, bf16 where the CPU is fast at it, and a bar with loss and tokens/s. The
Trainer's own arguments are built in `build_arguments` and nowhere else. It chooses
neither recipe nor task.
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import wandb
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from lessons_lib.errors import SettingError
from lessons_lib.hardware import (
    Precision,
    choose_precision,
    free_memory,
    join_processes,
    peak_memory_mb,
    pick_device,
)
from lessons_lib.progress import progress_bar
from lessons_lib.training.batches import LengthBucketSampler, cut_rows
from lessons_lib.training.checkpoints import describe_run, prepare_checkpoints
from lessons_lib.training.ema import WeightEma
from lessons_lib.training.monitoring import ResourceMonitor
from lessons_lib.training.precision import mixed_precision_lora
from lessons_lib.training.settings import TrainSettings
from lessons_lib.training.tasks import Task
from lessons_lib.training.tracking import prepare_tracking

FIRST_STEPS = 3  # after which it is told how long the others will take
# Tokens that a CPU computes at once. A batch with more goes in pieces whose gradients add up to the
# batch's: 32 rows of 384 tokens of an encoder took 4.7 GB whole, 12 packed rows of 400 tokens of a
# decoder 6 GB.
CPU_TOKENS = 4096


@dataclass(frozen=True)
class TrainResult:
    """What a run cost.

    history: one row per logged step, with step, epoch, loss, learning_rate and, where validation
    was evaluated, validation_loss and validation_accuracy. peak_mb: the process's peak in 10⁶
    bytes, see `describe_peak_memory`. rise_mb: by how much memory rose above what was in use when
    training began, model included. resources: how busy the machine was, as
    `ResourceMonitor.table` has it.
    """

    steps: int
    seconds: float
    rows: int
    tokens: int
    peak_mb: float
    rise_mb: float
    precision: Precision
    history: pd.DataFrame
    resources: pd.DataFrame

    @property
    def tokens_per_second(self) -> float:
        """Real tokens per second: padding does not count."""
        return self.tokens / max(self.seconds, 1e-9)


def train(
    model: nn.Module,
    train_rows: Dataset,
    validation_rows: Dataset | None,
    settings: TrainSettings,
    *,
    task: Task,
    output_dir: str | Path,
    evaluations: int = 3,
    checkpoint_steps: int = 0,
    resume: bool = False,
    report_to: str = "none",
    precision: Precision | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    callbacks: tuple[TrainerCallback, ...] = (),
    progress: bool = True,
) -> TrainResult:
    """Trains `model` in place on tokenized rows (`input_ids`, `labels`) and says what it cost.

    task: what is learned, `classification(model)` or `ANSWERS`. evaluations: how often validation
    is looked at. checkpoint_steps: 0 keeps no checkpoints; otherwise `resume=True` continues from
    the last whole one in `output_dir` (SettingError when its settings were others). report_to:
    "none", "wandb" (offline unless WANDB_API_KEY is set), "trackio" or "tensorboard". optimizer:
    one of the caller's own in place of AdamW; the schedule is the same. Seconds leave evaluation
    out.
    """
    output_dir = Path(output_dir)
    precision = precision or choose_precision()
    if task.check:
        task.check(train_rows)
    with join_processes().main_process_first():
        run = describe_run(model, train_rows, settings, dtype=precision.dtype, task=task.name)
        checkpoint = prepare_checkpoints(output_dir, run, resume)
    prepare_tracking(report_to, output_dir)
    steps = _count_steps(len(train_rows), settings)
    evaluate_every = max(1, steps // evaluations) if validation_rows and evaluations else 0
    arguments = build_arguments(
        settings,
        precision,
        steps,
        evaluate_every,
        checkpoint_steps,
        output_dir=str(output_dir),
        report_to=report_to,
        prediction_loss_only=task.metrics is None,
    )
    lengths = [len(ids) for ids in train_rows["input_ids"]]
    watch = _Watch(
        steps, settings.batch_size, lengths, progress and join_processes().is_main_process
    )
    ema = [WeightEma(settings.ema_decay, checkpoint)] if settings.ema_decay else []
    trainer = _BucketTrainer(
        LengthBucketSampler(lengths, settings.batch_size, settings.seed),
        task,
        model=model,
        args=arguments,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        compute_loss_func=task.loss,
        compute_metrics=task.metrics,
        optimizers=(optimizer, None),
        callbacks=[watch, *ema, *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    monitor = ResourceMonitor()
    trainer.callback_handler.callbacks.insert(0, monitor)  # before trackers log
    free_memory()
    try:
        with mixed_precision_lora(model, precision):
            trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        monitor.stop()
    # accelerate has wrapped `forward` in autocast: left so, the model would answer in bf16 ever
    # after; and left marked as wrapped, it would be trained without autocast the next time
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False).eval()
    vars(model).pop("_is_accelerate_prepared", None)
    if report_to == "wandb":
        wandb.finish()  # or the next training would go on in this run
    free_memory()
    return _summarise(trainer.state, watch, monitor, lengths, precision)


def _summarise(
    state: TrainerState,
    watch: "_Watch",
    monitor: ResourceMonitor,
    lengths: list[int],
    precision: Precision,
) -> TrainResult:
    # epochs done here, not before a resume
    share = state.epoch * watch.steps / max(1, state.global_step)
    return TrainResult(
        state.global_step,
        watch.seconds,
        round(share * len(lengths)),
        round(share * sum(lengths)),
        peak_memory_mb(),
        monitor.rise_mb(),
        precision,
        tabulate_history(state.log_history),
        monitor.table(),
    )


def build_arguments(
    settings: TrainSettings,
    precision: Precision,
    steps: int,
    evaluate_every: int,
    save_every: int,
    **more: str | bool,
) -> TrainingArguments:
    """The one place that names the Trainer's arguments, which change between versions. Both `every`
    count steps; 0 is never. Raises ValueError when a batch cannot be shared out evenly to the
    processes."""
    processes = join_processes().num_processes
    if settings.batch_size % processes:
        raise SettingError(
            f"a batch of {settings.batch_size} rows cannot be shared out to {processes} processes.",
            remedy="a batch size that they divide.",
        )
    arguments = TrainingArguments(
        **more,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size // processes,
        per_device_eval_batch_size=settings.batch_size if more.get("prediction_loss_only") else 64,
        warmup_steps=round(settings.warmup * steps),
        optim="adamw_torch_fused",
        seed=settings.seed,
        bf16=precision.dtype == "bfloat16",
        use_cpu=pick_device() == "cpu",
        eval_strategy="steps" if evaluate_every else "no",
        eval_steps=evaluate_every or None,
        logging_steps=max(1, steps // 50),
        save_strategy="steps" if save_every else "no",
        save_steps=save_every or 500,
        save_total_limit=2,
        disable_tqdm=True,  # `_Watch` draws the bar
        dataloader_pin_memory=pick_device() == "cuda",
    )
    # else the Trainer would spread batches over all GPUs it sees
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def tabulate_history(log: list[dict]) -> pd.DataFrame:
    """The Trainer's log as a table with a row per step, columns as in TrainResult."""
    names = {"eval_loss": "validation_loss", "eval_accuracy": "validation_accuracy"}
    keep = ["step", "epoch", "loss", "learning_rate", "validation_loss", "validation_accuracy"]
    by_step = pd.DataFrame(log).rename(columns=names).groupby("step", as_index=False).first()
    return by_step.reindex(columns=keep)


class _BucketTrainer(Trainer):
    """The Trainer with rows in the sampler's order, and with large batches in pieces."""

    def __init__(self, sampler: Sampler, task: Task, **arguments: object) -> None:
        self.sampler = sampler  # before super(), which may ask for it
        self.task = task
        self.share = 1.0  # of the batch's loss that the rows at hand make up
        super().__init__(data_collator=task.collate, **arguments)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        return self.sampler

    def get_train_dataloader(self) -> DataLoader:
        """Batches of training rows; on a CPU in pieces, where they are large."""
        if self.args.device.type == "cpu":
            self.data_collator = self._collate_pieces
        loader = super().get_train_dataloader()
        self.data_collator = self.task.collate
        return loader

    def _collate_pieces(self, rows: list[dict]) -> dict:
        pieces = [self.task.collate(piece) for piece in cut_rows(rows, CPU_TOKENS)]
        return pieces[0] if len(pieces) == 1 else {"pieces": pieces}

    def training_step(
        self, model: nn.Module, inputs: dict, num_items_in_batch: object = None
    ) -> torch.Tensor:
        """A batch's loss; its gradients are added piece by piece."""
        if "pieces" not in inputs:
            return super().training_step(model, inputs, num_items_in_batch)
        weights = [self.task.weigh(piece["labels"]) for piece in inputs["pieces"]]
        losses = []
        for piece, weight in zip(inputs["pieces"], weights, strict=True):
            self.share = weight / sum(weights)
            losses.append(super().training_step(model, piece))
        self.share = 1.0
        return torch.stack(losses).sum()

    def compute_loss(self, *arguments: object, **options: object) -> torch.Tensor:
        """The loss, as large as its rows' share of the batch."""
        loss = super().compute_loss(*arguments, **options)
        return loss if self.share == 1.0 else self.share * loss


class _Watch(TrainerCallback):
    """Draws the bar and counts seconds, evaluation left out."""

    def __init__(self, steps: int, batch_size: int, lengths: list[int], progress: bool) -> None:
        self.seconds = 0.0
        self.started = None
        self.steps = 0
        self.tokens_per_step = batch_size * sum(lengths) / max(1, len(lengths))
        self.bar = progress_bar(steps, "train", "step", disable=not progress)

    def on_step_begin(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Starts the clock, if it stands."""
        self.started = self.started or time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Adds the step's seconds and moves the bar."""
        now = time.perf_counter()
        self.seconds = self.seconds + now - self.started
        self.started = now
        self.steps += 1
        self.bar.update(state.global_step - self.bar.n)
        if self.steps == FIRST_STEPS and os.environ.get("LESSONS_DATA"):
            self._say_how_long(state.max_steps - state.global_step)

    def _say_how_long(self, steps_left: int) -> None:
        """Tells the reader of a file of their own, whose rows nobody has timed, what to expect."""
        minutes = self.seconds / self.steps * steps_left / 60
        if minutes >= 1:
            self.bar.write(f"about {minutes:.0f} minutes for {steps_left:,} more steps", sys.stdout)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:  # noqa: ANN001
        """Shows loss and tokens per second."""
        if "loss" in (logs or {}) and self.seconds:
            speed = self.steps * self.tokens_per_step / self.seconds
            self.bar.set_postfix_str(
                f"loss {logs['loss']:.3f}, {speed:,.0f} tokens/s", refresh=False
            )

    def on_evaluate(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Stops the clock: evaluation is no training."""
        self.started = None

    def on_train_end(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Closes the bar."""
        self.bar.close()


def estimate_seconds(
    model: nn.Module,
    rows: Dataset,
    settings: TrainSettings,
    *,
    task: Task,
    precision: Precision | None = None,
) -> float:
    """Seconds that `train` would take on these rows on this machine, its preparations left out.

    It takes four steps on rows of middling length, the first of which only warms up; so `model` is
    changed, and should be one that is let go of.
    """
    lengths = np.array([len(ids) for ids in rows["input_ids"]])
    start = max(0, len(rows) // 2 - 2 * settings.batch_size)
    middle = np.argsort(lengths, kind="stable")[start : start + 4 * settings.batch_size]
    timer = _StepTimer()
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            rows.select(middle),
            None,
            replace(settings, max_steps=4, ema_decay=0.0),
            task=task,
            output_dir=folder,
            precision=precision,
            callbacks=(timer,),
            progress=False,
        )
    seconds_per_token = np.median(np.diff(timer.ends)) / (
        lengths[middle].mean() * min(settings.batch_size, len(rows))
    )
    return float(seconds_per_token * lengths.sum() * settings.epochs)


class _StepTimer(TrainerCallback):
    """Keeps the moment at which every step ended."""

    def __init__(self) -> None:
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Looks at the clock."""
        self.ends.append(time.perf_counter())


def _count_steps(rows: int, settings: TrainSettings) -> int:
    if settings.max_steps > 0:
        return settings.max_steps
    return int(np.ceil(np.ceil(rows / settings.batch_size) * settings.epochs))

"""What a model is trained to do: how rows become a batch, what the loss is, what is measured.

Contract: `train` knows no task; it is given one.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import nn

from lessons_lib.hardware import pick_device
from lessons_lib.training.batches import find_pad_id, pad_batch
from lessons_lib.training.conversations import check_labels
from lessons_lib.training.packing import answer_loss, count_learned, pack_batch


@dataclass(frozen=True)
class Task:
    """What is trained.

    name: what it is, with its settings; a run is resumed only under the same name. collate: rows to
    a batch. loss: a function of outputs and labels; None for the model's own. metrics: a function
    of predictions on validation rows; None where the loss alone is looked at. check: raises
    DataError for training rows that cannot be learned from. weigh: what these labels of a batch
    count in the loss, together; without it every row counts one.
    """

    name: str
    collate: Callable[[list[dict]], dict[str, torch.Tensor]]
    loss: Callable[..., torch.Tensor] | None = None
    metrics: Callable[..., dict[str, float]] | None = None
    check: Callable[[Dataset], None] | None = None
    weigh: Callable[[torch.Tensor], float] = len


# A decoder learns the answers of conversations (rows of `encode_conversations`), several rows
# packed into one sequence; the questions are read and not learned.
ANSWERS = Task("answers", pack_batch, answer_loss, check=check_labels, weigh=count_learned)


def classification(model: nn.Module, class_weights: list[float] | None = None) -> Task:
    """A classifier of `model` learns the class of each row (rows of `tokenize_reviews`).

    class_weights: what a row of each class counts in the loss; by default every row counts 1.
    """
    collate = functools.partial(pad_batch, pad_id=find_pad_id(model))
    if class_weights is None:
        return Task("classes", collate, metrics=_accuracy)
    weights = torch.tensor(class_weights, dtype=torch.float32, device=pick_device())
    return Task(
        f"classes, weighted {class_weights}",
        collate,
        _weigh_loss(weights),
        _accuracy,
        weigh=lambda labels: float(weights[labels].sum()),
    )


def _weigh_loss(weights: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A classifier's mean cross entropy in which a row counts what its class's weight says."""
    loss = nn.CrossEntropyLoss(weights)
    return lambda outputs, labels, num_items_in_batch=None: loss(outputs.logits.float(), labels)


def _accuracy(prediction) -> dict[str, float]:  # noqa: ANN001
    right = prediction.predictions.argmax(-1) == prediction.label_ids
    return {"accuracy": float(right.mean())}

"""What a training run depends on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainSettings:
    """What a run depends on. `batch_size` is that of all processes together. The learning rate is
    AdamW's; it rises over `warmup` (a share of all steps) and falls linearly to 0. `ema_decay`
    above 0 ends with a moving average of the weights of that decay (see `WeightEma`)."""

    learning_rate: float
    epochs: float
    batch_size: int
    seed: int = 0
    warmup: float = 0.0
    ema_decay: float = 0.0
    max_steps: int = -1

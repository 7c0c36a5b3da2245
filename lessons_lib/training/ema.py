"""A moving average of the trained weights (EMA)."""

from pathlib import Path

import torch
from torch import nn
from transformers import TrainerCallback


class WeightEma(TrainerCallback):
    """Ends training with a moving average of the trained weights instead of the last ones.

    Averaging starts after a third of the steps, first evenly, then with the given decay (Izmailov
    et al. 2018 average evenly). It smooths the last steps' noise out, at the cost of one copy of
    the trained weights, which checkpoints keep as well.
    """

    FILE = "average.pt"

    def __init__(self, decay: float, checkpoint: str | None) -> None:
        self.decay = decay
        self.count = 0
        self.weights = None
        if checkpoint:
            kept = torch.load(Path(checkpoint) / self.FILE)
            self.count = kept["count"]
            self.weights = kept["weights"]

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:  # noqa: ANN001
        """Takes this step's weights into the average."""
        if state.global_step <= state.max_steps // 3:
            return
        trained = trained_parameters(model)
        self.count += 1
        keep = min(self.decay, 1 - 1 / self.count)
        if self.weights is None:
            self.weights = [p.clone() for p in trained]
        for average, weight in zip(self.weights, trained, strict=True):
            average.lerp_(weight, 1 - keep)

    def on_save(self, args, state, control, **kwargs) -> None:  # noqa: ANN001
        """Puts the average beside the checkpoint's other files."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        torch.save({"count": self.count, "weights": self.weights}, folder / "partial.pt")
        (folder / "partial.pt").replace(folder / self.FILE)

    def on_train_end(self, args, state, control, model=None, **kwargs) -> None:  # noqa: ANN001
        """Gives the model the averaged weights."""
        if self.weights:
            for parameter, average in zip(trained_parameters(model), self.weights, strict=True):
                parameter.copy_(average)


def trained_parameters(model: nn.Module) -> list[torch.Tensor]:
    """The parameters that training moves, detached."""
    return [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]

"""What a decoder says: log-likelihoods of given answers and texts, and answers that it writes
itself.

Contract: choices are scored by log-probability at token positions that are counted, never searched
for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib.hardware import choose_precision
from lessons_lib.progress import progress_bar
from lessons_lib.training.packing import pack_rows


def score_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    choices: list[list[str]],
    **options: object,
) -> np.ndarray:
    """Log-probability of every choice as the continuation of its prompt, summed over the choice's
    tokens: (prompts, choices); `options` go to `score_tokens`. Choices are tokenized apart from
    their prompt, so their first token is counted, not searched for."""
    pairs = []
    for before, some in zip(
        tokenizer(prompts, add_special_tokens=False)["input_ids"], choices, strict=True
    ):
        pairs += [
            (before, after) for after in tokenizer(some, add_special_tokens=False)["input_ids"]
        ]
    return score_tokens(model, pairs, **options).reshape(len(prompts), -1)


def measure_text_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: object
) -> np.ndarray:
    """Mean negative log-likelihood a token (texts) of running text after its first token, which is
    the beginning-of-text token where the tokenizer writes one; `options` go to `score_tokens`."""
    rows = [tokenizer(text)["input_ids"] for text in texts]
    sums = score_tokens(model, [(row[:1], row[1:]) for row in rows], **options)
    return -sums / [len(row) - 1 for row in rows]


@torch.inference_mode()
def score_tokens(
    model: PreTrainedModel,
    pairs: list[tuple[list[int], list[int]]],
    *,
    batch_size: int = 16,
    progress: bool = True,
) -> np.ndarray:
    """Log-probability (pairs) of the second tokens of each pair after its first ones, summed.

    Inputs of a batch are laid out as a tree (`pack_rows`): what they begin with is read once,
    and so are equal inputs.
    """
    answers_by_input: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
    for number, (before, answer) in enumerate(pairs):
        # the last token is predicted, never read
        input_ids = tuple((before + answer)[:-1])
        answers_by_input.setdefault(input_ids, []).append((number, answer))
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    precision = choose_precision()
    is_mixed = precision.dtype == "bfloat16"
    scores = np.zeros(len(pairs))
    inputs = sorted(answers_by_input)  # neighbours begin alike
    bar = progress_bar(len(inputs), "score", "row", disable=not progress)
    for start in range(0, len(inputs), batch_size):
        some = inputs[start : start + batch_size]
        packed = pack_rows(some)
        batch = {name: tensor.to(core.device) for name, tensor in packed.inputs().items()}
        with torch.autocast(core.device.type, precision.torch_dtype, enabled=is_mixed):
            states = core.get_decoder()(**batch, use_cache=False).last_hidden_state[0]
        numbers = []
        lengths = []
        positions = []
        targets = []
        for path, input_ids in zip(packed.row_indices, some, strict=True):
            for number, answer in answers_by_input[input_ids]:
                numbers.append(number)
                lengths.append(len(answer))
                positions += path[len(path) - len(answer) :]
                targets += answer
        log_probabilities = _score_targets(core, states[positions], targets)
        for number, part in zip(numbers, log_probabilities.split(lengths), strict=True):
            scores[number] = float(part.sum())
        bar.update(len(some))
    bar.close()
    return scores


def _score_targets(
    model: PreTrainedModel, states: torch.Tensor, targets: list[int]
) -> torch.Tensor:
    """Log-probability (targets) of each target as the token after its state (targets, width)."""
    head = model.get_output_embeddings()
    logits = head(states.to(head.weight.dtype)).float()  # in bf16 their sum would be rounded
    chosen = logits.gather(1, torch.tensor(targets, device=model.device)[:, None])[:, 0]
    return chosen - logits.logsumexp(-1)


@dataclass(frozen=True)
class Answer:
    """A generated answer, whether it ended by itself, and how many tokens it took."""

    text: str
    stopped: bool
    tokens: int


@torch.inference_mode()
def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    *,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    progress: bool = True,
) -> list[Answer]:
    """The likeliest continuation of every rendered prompt, token by token, until the model ends
    it.
    """
    answers = []
    end = tokenizer.eos_token_id
    # within `mixed_precision_lora` the output layer is in bf16, and the states it reads are in fp32
    mixed = model.get_output_embeddings().weight.dtype == torch.bfloat16
    bar = progress_bar(len(prompts), "answer", "prompt", disable=not progress)
    tokenizer.padding_side = "left"  # so that every row's answer begins at the same place
    for start in range(0, len(prompts), batch_size):
        batch = tokenizer(
            prompts[start : start + batch_size],
            padding=True,
            add_special_tokens=False,
            return_token_type_ids=False,
            return_tensors="pt",
        ).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=mixed):
            written = model.generate(
                **batch,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=tokenizer.pad_token_id,
            )
        for row in written[:, batch["input_ids"].shape[1] :].tolist():
            said = row[: row.index(end)] if end in row else row
            answers.append(Answer(tokenizer.decode(said).strip(), end in row, len(said)))
        bar.update(len(batch["input_ids"]))
    bar.close()
    return answers

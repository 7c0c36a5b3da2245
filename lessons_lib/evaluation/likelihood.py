"""Outputs of a decoder: log-likelihoods of given answers and texts, and generated answers.

Contract: the token positions at which a choice is scored are counted, never searched for in the
text. Log-probabilities are natural logarithms.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib.hardware import choose_precision
from lessons_lib.models.attention import fast_attention
from lessons_lib.progress import progress_bar
from lessons_lib.training.packing import pack_rows


def score_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    choices: list[list[str]],
    **options: object,
) -> np.ndarray:
    """Log-probabilities (prompts, choices) of each choice as the continuation of its prompt.

    They are sums over the choice's tokens. Choices are tokenized apart from their prompt, so the
    position of their first token is known. Every prompt needs the same number of choices. options:
    arguments of `score_tokens`.
    """
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    pairs = []
    for before, prompt_choices in zip(prompt_ids, choices, strict=True):
        choice_ids = tokenizer(prompt_choices, add_special_tokens=False)["input_ids"]
        pairs += [(before, after) for after in choice_ids]
    return score_tokens(model, pairs, **options).reshape(len(prompts), -1)


def measure_text_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: object
) -> np.ndarray:
    """Mean negative log-likelihood per token (texts), in nats, of each text after its first token.

    The first token is the beginning-of-text token, if the tokenizer writes one. options: arguments
    of `score_tokens`.
    """
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
    """Log-probability (pairs) of each pair's second token ids after its first, summed over tokens.

    Inputs of a batch are packed as a tree (`pack_rows`), so common beginnings and equal inputs are
    read once.
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
        batch_inputs = inputs[start : start + batch_size]
        packed = pack_rows(batch_inputs)
        batch = {name: tensor.to(core.device) for name, tensor in packed.inputs().items()}
        autocast = torch.autocast(core.device.type, precision.torch_dtype, enabled=is_mixed)
        with autocast, fast_attention(core):
            states = core.get_decoder()(**batch, use_cache=False).last_hidden_state[0]
        numbers = []
        lengths = []
        positions = []
        targets = []
        for path, input_ids in zip(packed.row_indices, batch_inputs, strict=True):
            for number, answer in answers_by_input[input_ids]:
                numbers.append(number)
                lengths.append(len(answer))
                positions += path[len(path) - len(answer) :]
                targets += answer
        log_probabilities = _score_targets(core, states[positions], targets)
        for number, part in zip(numbers, log_probabilities.split(lengths), strict=True):
            scores[number] = float(part.sum())
        bar.update(len(batch_inputs))
    bar.close()
    return scores


def _score_targets(
    model: PreTrainedModel, states: torch.Tensor, targets: list[int]
) -> torch.Tensor:
    """Log-probability (targets) of each target token after its hidden state (targets, width)."""
    head = model.get_output_embeddings()
    logits = head(states.to(head.weight.dtype)).float()  # in bf16 their sum would be rounded
    chosen = logits.gather(1, torch.tensor(targets, device=model.device)[:, None])[:, 0]
    return chosen - logits.logsumexp(-1)


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    stopped: whether the model ended it by its end token. tokens: its length without that token.
    """

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
    """Answers to rendered prompts by greedy decoding, in the order of the prompts.

    Each ends with the model's end token, or after `max_new_tokens`.
    """
    answers = []
    end = tokenizer.eos_token_id
    # inside `mixed_precision_lora` the output layer is in bf16, and its input is in fp32
    mixed = model.get_output_embeddings().weight.dtype == torch.bfloat16
    bar = progress_bar(len(prompts), "answer", "prompt", disable=not progress)
    tokenizer.padding_side = "left"  # every row's answer begins at the same position
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
            token_ids = row[: row.index(end)] if end in row else row
            text = tokenizer.decode(token_ids).strip()
            answers.append(Answer(text, end in row, len(token_ids)))
        bar.update(len(batch["input_ids"]))
    bar.close()
    return answers

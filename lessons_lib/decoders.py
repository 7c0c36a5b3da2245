"""Decoders of the Llama architecture: loaded, prompted through their chat template, asked for likelihoods.

Contract: one function renders prompts, for training and for asking; choices are scored by log-probability
at token positions that are counted, never searched for. It trains nothing.
"""

import copy
import os
from pathlib import Path

import numpy as np
import torch
import transformers
from huggingface_hub import auth_check
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from tokenizers import decoders, processors
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from lessons_lib.data import pad_batch
from lessons_lib.machine import choose_precision, pick_device
from lessons_lib.models import PACKAGED, ModelError, load_from_hub, load_tokenizer
from lessons_lib.progress import progress_bar

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {{ message['content'] }} [SEP] {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def load_decoder(name: str, **options: object) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model, on the GPU if there is one, in fp32 on a CPU and in what the GPU is fast at
    there, unless `options` (those of `from_pretrained`) say otherwise; its tokenizer.

    name: "tiny" (random weights), "packaged:SmolLM2-135M-Instruct", a folder, or a name on the Hub. Raises
    ModelError when a Hub model cannot be had.
    """
    if name == "tiny":
        return _build_tiny_decoder()
    tokenizer = load_tokenizer(name)
    if tokenizer.pad_token is None:  # Llama-2 has none; the unknown token never stands in a text
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    dtype = torch.float32 if pick_device() == "cpu" else choose_precision().torch_dtype
    model = load_from_hub(transformers.AutoModelForCausalLM, name, **{"dtype": dtype, **options})
    if "quantization_config" not in options:
        model = model.to(pick_device())
    return model.eval(), tokenizer


def choose_decoder(name: str, stand_in: str) -> str:
    """`name`, or `stand_in` where `name` is a gated Hub model to which this account has no access.

    Asks the Hub before anything is downloaded, and prints what was decided and both remedies.
    """
    if name == "tiny" or name.startswith(PACKAGED) or Path(name).is_dir():
        return name
    try:
        auth_check(name)
    except GatedRepoError:
        print(
            f"{name} is gated, and this account has no access to it. This run takes {stand_in} instead, an "
            f"open model of the same architecture; its numbers are its own. For {name}: accept its "
            f"licence on https://huggingface.co/{name}, set HF_TOKEN, and run again."
        )
        return stand_in
    except (RepositoryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"{name} could not be asked for ({type(error).__name__}). Remedy: check the name and the "
            "network, or use the laptop profile (LESSONS_PROFILE=laptop), which needs no Hub."
        ) from error
    return name


def render_chat(
    tokenizer: PreTrainedTokenizerBase, question: str, examples: list[tuple[str, str]] | None = None
) -> str:
    """The prompt for `question`, after `examples` (question, answer), up to where the answer begins.

    The template writes the special tokens: tokenize the result with `add_special_tokens=False`.
    """
    messages = []
    for asked, answered in [*(examples or []), (question, None)]:
        messages.append({"role": "user", "content": asked})
        if answered is not None:
            messages.append({"role": "assistant", "content": answered})
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


@torch.inference_mode()
def score_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    choices: list[list[str]],
    *,
    batch_size: int = 16,
    progress: bool = True,
) -> np.ndarray:
    """Log-probability of every choice as the continuation of its prompt, summed over the choice's tokens:
    (prompts, choices).

    What all prompts begin with is read once, and so are equal inputs: one-token choices of a prompt share
    theirs. Choices are tokenized apart from their prompt, so their first token is counted, not searched for.
    """
    prompt_ids, pairs, inputs = [_encode(tokenizer, prompt) for prompt in prompts], [], {}
    for row, (before, options) in enumerate(zip(prompt_ids, choices, strict=True)):
        for choice in options:
            after = _encode(tokenizer, choice)
            inputs.setdefault(tuple((before + after)[:-1]), []).append(len(pairs))
            pairs.append((row, after))
    common = os.path.commonprefix(list(inputs))  # noqa: RUF071  (it compares any sequences)
    shared = min(len(common), min(map(len, prompt_ids)) - 1)
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    reader, head, device = core.get_decoder(), core.get_output_embeddings(), core.device
    precision = choose_precision()
    scores = np.zeros(len(pairs))
    with torch.autocast(device.type, precision.torch_dtype, enabled=precision.dtype == "bfloat16"):
        prefix = torch.tensor([next(iter(inputs))[:shared]], device=device)
        cache = reader(input_ids=prefix, use_cache=True).past_key_values if shared else None
        order = sorted(inputs, key=len)
        bar = progress_bar(len(order), "score", "row", disable=not progress)
        for start in range(0, len(order), batch_size):
            keys = order[start : start + batch_size]
            states = _read_rows(reader, [key[shared:] for key in keys], cache, shared, device)
            for state, key in zip(states, keys, strict=True):
                for number in inputs[key]:
                    row, after = pairs[number]
                    first = len(prompt_ids[row]) - 1 - shared
                    with torch.autocast(device.type, enabled=False):  # bf16 would round answers alike
                        logits = head(state[first : first + len(after)].to(head.weight.dtype))
                    logits = logits.float().log_softmax(-1)
                    scores[number] = float(logits[torch.arange(len(after)), after].sum())
            bar.update(len(keys))
        bar.close()
    return scores.reshape(len(prompts), -1)


def _read_rows(
    reader: torch.nn.Module, rows: list[tuple], cache: object, shared: int, device: torch.device
) -> torch.Tensor:
    """Last states (rows, tokens, width) of right-padded rows that follow the cached prefix."""
    batch = {k: v.to(device) for k, v in pad_batch([{"input_ids": row} for row in rows], 0).items()}
    if cache is not None:
        cache = copy.deepcopy(cache)
        cache.batch_repeat_interleave(len(rows))
        seen = torch.ones(len(rows), shared, dtype=torch.long, device=device)
        batch["attention_mask"] = torch.cat([seen, batch["attention_mask"]], 1)
    return reader(**batch, past_key_values=cache, use_cache=cache is not None).last_hidden_state


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _build_tiny_decoder() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = load_tokenizer("tiny")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    tokenizer.backend_tokenizer.decoder = decoders.WordPiece()
    tokenizer.eos_token, tokenizer.chat_template = "[SEP]", CHAT_TEMPLATE
    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    set_seed(0)
    return transformers.LlamaForCausalLM(config).to(pick_device()).eval(), tokenizer

"""Decoders of the Llama architecture: loaded, and prompted through their chat template.

Contract: one function renders prompts, for training and for asking. It trains nothing.
"""

from pathlib import Path

import torch
import transformers
from huggingface_hub import auth_check, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessons_lib.hardware import choose_precision, pick_device
from lessons_lib.models.load import PACKAGED, TINY, ModelError, load_pretrained, load_tokenizer


def load_decoder(name: str, **options: object) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model, on the GPU if there is one, in fp32 on a CPU and in what the GPU is
    fast at there, unless `options` (those of `from_pretrained`) say otherwise; its tokenizer.

    name: "tiny" (random weights), "packaged:SmolLM2-135M-Instruct", a folder, or a name on the Hub.
    Raises ModelError when a Hub model cannot be had.
    """
    name = "tiny:decoder" if name == "tiny" else name
    tokenizer = load_tokenizer(name)
    dtype = torch.float32 if pick_device() == "cpu" else choose_precision().torch_dtype
    # straight to where they are used: a GPU's machine may have less memory than 7 billion weights
    # need
    is_quantized = options.get("quantization_config") is not None
    place = {} if is_quantized else {"device_map": pick_device()}
    model = load_pretrained(
        transformers.AutoModelForCausalLM, name, **{"dtype": dtype, **place, **options}
    )
    return model.eval(), tokenizer


def resolve_decoder(name: str, fallback_decoder: str) -> str:
    """`name`, or `fallback_decoder` where `name` is a gated Hub model that this account may not
    download.

    Asks the Hub before anything is downloaded, and prints what was decided and both remedies; a
    model that is in the Hub's cache is taken as it is, without a network. Raises ModelError where
    there is no fallback, and where the Hub gives no answer.
    """
    if name in TINY or name.startswith(PACKAGED) or Path(name).is_dir():
        return name
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            auth_check(name)
    except GatedRepoError as error:
        remedy = (
            f"accept its licence on https://huggingface.co/{name}, set HF_TOKEN, and run again."
        )
        gated = f"{name} is gated, and this account has no access to it."
        if not fallback_decoder:
            raise ModelError(gated, remedy=remedy) from error
        print(
            f"{gated} This run takes {fallback_decoder} instead, an open model of the same "
            "architecture; its"
        )
        print(f"numbers are its own. For {name}: {remedy}")
        return fallback_decoder
    except Exception as error:
        # no network: the Hub's client lets its HTTP library's own errors through
        raise ModelError(
            f"the Hub gave no answer about {name} ({type(error).__name__}).",
            remedy="check name, network and HF_TOKEN, or use the laptop profile "
            "(LESSONS_PROFILE=laptop), which needs no Hub.",
        ) from error
    return name


def render_chat(
    tokenizer: PreTrainedTokenizerBase, question: str, examples: list[tuple[str, str]] | None = None
) -> str:
    """The prompt for `question`, after `examples` (question, answer), up to where the answer
    begins.
    """
    turns = [
        turn for asked, said in examples or [] for turn in (("user", asked), ("assistant", said))
    ]
    return render_messages(tokenizer, (*turns, ("user", question)))


def render_messages(tokenizer: PreTrainedTokenizerBase, turns: tuple[tuple[str, str], ...]) -> str:
    """The chat template's text of `turns` (role, content), up to where the next answer begins.

    The template writes the special tokens: tokenize the result with `add_special_tokens=False`.
    """
    messages = [{"role": role, "content": content} for role, content in turns]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

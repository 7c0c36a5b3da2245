"""Models by name: read from a package, a folder, the tiny ones of the smoke profile, or the Hub.

Contract: names are "tiny" or "tiny:decoder" (random weights), "packaged:<asset>", a local folder or
a name on the Hugging Face Hub. What cannot be had raises a ModelError that says what to do.
"""

import os
import warnings
from pathlib import Path

import datasets
import torch
import transformers
from bitsandbytes.nn import Linear4bit
from filelock import FileLock
from torch import nn
from transformers.utils import logging

from lessons_lib.assets import fetch_asset
from lessons_lib.errors import CourseError
from lessons_lib.paths import TINY_MODELS

PACKAGED = "packaged:"
TINY = {"tiny": TINY_MODELS / "encoder", "tiny:decoder": TINY_MODELS / "decoder"}


class ModelError(CourseError):
    """A model could not be loaded; the message says which, why and what to do."""


def load_tokenizer(name: str) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer that belongs to a model's name, with a token to pad with."""
    tokenizer = load_pretrained(transformers.AutoTokenizer, name)
    if tokenizer.pad_token is None:  # Llama-2 has none; the unknown token never stands in a text
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def packaged_folder(name: str) -> Path:
    """The folder of "packaged:<asset>", as `from_pretrained` takes it; a GGUF file is unpacked
    once.
    """
    source = fetch_asset(name.removeprefix(PACKAGED))
    if not list(source.glob("*.gguf")):
        return source
    target = source.with_name(f"{source.name}-bf16")
    with FileLock(source.with_name(f".{target.name}.lock")):
        if not target.is_dir():
            print(f"Unpacking {source.name}, once (20 s)", flush=True)
            partial = target.with_name(f".{target.name}-partial")
            _unpack_gguf(next(source.glob("*.gguf")), partial)
            partial.replace(target)  # atomic: the folder is there whole or not at all
    return target


def _unpack_gguf(file: Path, target: Path) -> None:
    """Saves a GGUF file's model in bf16, with its tokenizer.

    transformers reads such a file but refuses to save what it read, so the weights (stored in 4
    bit) are copied into a fresh model of the same configuration.
    """
    place = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    read = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    fields = {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    fresh = type(read)(type(read.config).from_dict(fields))
    fresh.load_state_dict(read.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(**place).save_pretrained(target)


def quiet_libraries() -> None:
    """Silences progress bars and advice that would drown a lesson; warnings of errors stay."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft|torch")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def locate_model(name: str) -> str:
    """What `from_pretrained` takes for a model's name: the folder of a packaged or a tiny model
    (which is fetched if need be), or the name itself, for a folder or a model on the Hub.
    """
    if name.startswith(PACKAGED):
        return str(packaged_folder(name))
    return str(TINY.get(name, name))


def load_pretrained(loader: type, name: str, **arguments: object) -> object:
    """`loader.from_pretrained` of a packaged model, a folder or a Hub name, with an error that says
    what to do. The one place where weights are read, and so where 4-bit weights are told to stay as
    they are."""
    place = locate_model(name)
    try:
        loaded = loader.from_pretrained(place, **arguments)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{name} could not be loaded: {first}",
            remedy="check the name and the network; for a gated model ask for access on its Hub "
            "page and set HF_TOKEN; or use the laptop profile (LESSONS_PROFILE=laptop), which "
            "needs no Hub.",
        ) from error
    if isinstance(loaded, nn.Module):
        _forbid_repacking(loaded)
    return loaded


def _forbid_repacking(model: nn.Module) -> None:
    """Keeps 4-bit weights in one layout.

    On a CPU with AVX512_BF16, bitsandbytes repacks a layer's weights when it is first asked in
    inference: training would go on with weights that it reads wrongly, and small layers end in an
    error.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False

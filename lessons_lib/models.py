"""Models: loaded, adapted with LoRA, counted, and their memory estimated beforehand.

Contract: everything that draws random numbers takes a seed and draws them here, so that two builds are
equal. Names are "tiny" or "tiny:decoder" (random weights, for smoke runs), "packaged:<asset>", a local folder
or a name on the Hugging Face Hub. It does not train.
"""

import copy
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
import transformers
from bitsandbytes.nn import Linear4bit
from filelock import FileLock
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import set_seed
from transformers.utils import logging

from lessons_lib.assets import fetch_asset
from lessons_lib.data import CLASS_NAMES, SAMPLES
from lessons_lib.errors import CourseError, SettingError
from lessons_lib.machine import pick_device

HEAD = ("pre_classifier", "classifier")  # the layers DistilBERT adds on top for classification
PACKAGED = "packaged:"
TINY = {"tiny": SAMPLES.parent / "tiny" / "encoder", "tiny:decoder": SAMPLES.parent / "tiny" / "decoder"}
# How a BERT parameter is called in a DistilBERT (the same computation under other names).
BERT_TO_DISTILBERT = (
    (r"^encoder\.layer", "transformer.layer"),
    (r"attention\.self\.(query|key|value)", lambda m: f"attention.{m[1][0]}_lin"),
    (r"attention\.output\.dense", "attention.out_lin"),
    (r"attention\.output\.LayerNorm", "sa_layer_norm"),
    (r"intermediate\.dense", "ffn.lin1"),
    (r"output\.dense", "ffn.lin2"),
    (r"output\.LayerNorm", "output_layer_norm"),
)


class ModelError(CourseError):
    """A model could not be loaded; the message says which, why and what to do."""


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters; `head` is the classifier, which every method trains and none calls LoRA."""

    total: int
    lora: int
    head: int
    base_trainable: int

    @property
    def trainable(self) -> int:
        """All that training moves."""
        return self.lora + self.head + self.base_trainable


def load_classifier(
    name: str,
    *,
    seed: int,
    dropout: float | None = None,
    pooling: str = "cls",
    class_names: list[str] = CLASS_NAMES,
    quantization_config: transformers.BitsAndBytesConfig | None = None,
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """A sequence classifier with a fresh head drawn from `seed`, in fp32, on the GPU if there is one; its
    tokenizer.

    name: "tiny", "packaged:all-MiniLM-L6-v2" (the BERT encoder in DistilBERT's layout), another packaged
    model, a folder, or a name on the Hub. dropout: the encoder's and the head's; None keeps what the
    model was published with.
    pooling: "cls", or "mean" (see `read_mean`). quantization_config: how the weights are kept, the head's
    left out. Raises ModelError when a Hub model cannot be had.
    """
    if pooling not in ("cls", "mean"):
        raise SettingError(f"there is no pooling {pooling!r}.", remedy='pooling="cls" or "mean".')
    config = load_config(name, class_names)
    if pooling == "mean" and config.model_type != "distilbert":
        raise SettingError(f"{name} reads its states in its own way.", remedy='pooling="cls".')
    if dropout is not None:
        config.update({name: dropout for name in vars(config) if "dropout" in name})
    tokenizer = load_tokenizer(name)
    config.pad_token_id = tokenizer.pad_token_id  # a decoder's head reads the last token before padding
    if config.model_type == "distilbert" and name.startswith(PACKAGED):
        weights = convert_bert_weights(
            load_from_hub(transformers.BertModel, name, dtype=torch.float32).state_dict()
        )
        set_seed(seed)
        model = transformers.DistilBertForSequenceClassification(config)
        model.distilbert.load_state_dict(weights)
    else:
        set_seed(seed)
        options = {"config": config, "dtype": torch.float32, "quantization_config": quantization_config}
        model = load_from_hub(transformers.AutoModelForSequenceClassification, name, **options)
    model = read_mean(model) if pooling == "mean" else model
    if not quantization_config:
        model = model.to(pick_device())
    return model.eval(), tokenizer


def read_mean(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """Lets the head read the mean of all tokens instead of the first one's state.

    Sentence encoders such as MiniLM are trained to be read so. A hook writes the mean of the encoder's
    last states (batch, tokens, width), padding left out, to position 0, where the head looks. It is not
    part of the saved weights: set it again after loading.
    """

    def write_mean(module: nn.Module, args: tuple, inputs: dict, output: object) -> object:
        """The hook: the output with the mean state at position 0."""
        states = output.last_hidden_state
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        mean = (states * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        output.last_hidden_state = torch.cat([mean, states[:, 1:]], 1)
        return output

    model.base_model.register_forward_hook(write_mean, with_kwargs=True)
    return model


def load_config(name: str, class_names: list[str] = CLASS_NAMES) -> transformers.PretrainedConfig:
    """The configuration `load_classifier` will build from; loads no weights."""
    labels = {"id2label": dict(enumerate(class_names)), "label2id": {c: n for n, c in enumerate(class_names)}}
    # a classifier writes nothing, so it needs no cache: 1 MB a token with a head on Llama-2-7B
    config = load_from_hub(transformers.AutoConfig, name, use_cache=False, **labels)
    if name.startswith(PACKAGED) and config.model_type == "bert":
        return distilbert_config(config, **labels)
    return config


def check_class_names(model: transformers.PreTrainedModel, class_names: list[str]) -> None:
    """Raises ModelError unless the model numbers its classes as the data does: else its answers are confident
    nonsense, for every loss and score works on numbers."""
    own = [str(model.config.id2label.get(number)) for number in range(model.config.num_labels)]
    if [name.lower() for name in own] != [name.lower() for name in class_names]:
        raise ModelError(
            f"The model's classes are {own}, the data's {class_names}. Remedy: train it with "
            "class_names=… of the data, or bring its columns into the data's order by name."
        )


def load_tokenizer(name: str) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer that belongs to a model's name, with a token to pad with."""
    tokenizer = load_from_hub(transformers.AutoTokenizer, name)
    if tokenizer.pad_token is None:  # Llama-2 has none; the unknown token never stands in a text
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def packaged_folder(name: str) -> Path:
    """The folder of "packaged:<asset>", as `from_pretrained` takes it; a GGUF file is unpacked once."""
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

    transformers reads such a file but refuses to save what it read, so the weights (stored in 4 bit) are
    copied into a fresh model of the same configuration.
    """
    place = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    read = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    fields = {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    fresh = type(read)(type(read.config).from_dict(fields))
    fresh.load_state_dict(read.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(**place).save_pretrained(target)


def distilbert_config(bert: transformers.AutoConfig, **changes: object) -> transformers.DistilBertConfig:
    """The DistilBERT configuration that computes what a BERT of configuration `bert` computes."""
    return transformers.DistilBertConfig(
        vocab_size=bert.vocab_size,
        max_position_embeddings=bert.max_position_embeddings,
        n_layers=bert.num_hidden_layers,
        n_heads=bert.num_attention_heads,
        dim=bert.hidden_size,
        hidden_dim=bert.intermediate_size,
        dropout=bert.hidden_dropout_prob,
        attention_dropout=bert.attention_probs_dropout_prob,
        activation=bert.hidden_act,
        pad_token_id=bert.pad_token_id,
        **changes,
    )


def convert_bert_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """BERT encoder weights under DistilBERT's names: the same function of one-sentence inputs.

    DistilBERT has no token types, so row 0 (all that one sentence uses) is added to every position; it
    has no pooler, so that is dropped.
    """
    converted = {}
    for name, tensor in weights.items():
        if "token_type" in name or "position_ids" in name or name.startswith("pooler"):
            continue
        if name == "embeddings.position_embeddings.weight":
            tensor = tensor + weights["embeddings.token_type_embeddings.weight"][0]
        for pattern, replacement in BERT_TO_DISTILBERT:
            name = re.sub(pattern, replacement, name)
        converted[name] = tensor
    return converted


def add_lora(model: transformers.PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """The model with LoRA layers drawn from `seed`; base weights frozen, the head trained in full.

    PEFT draws the matrices A here, before any Trainer sets a seed, so the seed is set here too.
    """
    set_seed(seed)
    return get_peft_model(model, config)


def count_parameters(model: nn.Module) -> ParameterCount:
    """Parameters in total and trainable, with LoRA's and the head's counted apart."""
    lora = head = base = total = 0
    for name, parameter in model.named_parameters():
        total += 0 if "original_module" in name else parameter.numel()  # PEFT keeps the head's first draw
        if not parameter.requires_grad:
            continue
        if "lora_" in name:
            lora += parameter.numel()
        elif any(part in (*HEAD, "score") for part in name.split(".")):
            head += parameter.numel()
        else:
            base += parameter.numel()
    return ParameterCount(total, lora, head, base)


def estimate_memory(
    model: str | transformers.PretrainedConfig,
    *,
    lora: LoraConfig | None,
    batch_size: int,
    tokens: int,
    weight_bytes: float = 4,
    linear_bytes: float | None = None,
) -> dict[str, float]:
    """MB (10⁶ bytes) that fine-tuning will need, by purpose, from a model's name or configuration alone.

    lora: None for full fine-tuning; its task_type "CAUSAL_LM" makes the model a decoder, else it is a
    classifier. weight_bytes: 4 for fp32, 2 for bf16; linear_bytes: those of frozen linear layers where they
    are quantised. Trained parameters count 4 bytes each for the gradient and 8 for AdamW's two moments.
    Activations are what the backward pass keeps in a transformer layer with fused attention: about 20 values
    of the hidden width a token.
    """
    config = load_config(model) if isinstance(model, str) else model
    causal = lora is not None and lora.task_type == "CAUSAL_LM"
    loader = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSequenceClassification
    with torch.device("meta"):
        built = loader.from_config(config)
        layers = {m for m in built.modules() if isinstance(m, nn.Linear)} - {built.get_output_embeddings()}
        linear = sum(layer.weight.numel() for layer in layers)
        built = get_peft_model(built, copy.deepcopy(lora)) if lora else built
    count = count_parameters(built)
    values = batch_size * tokens * config.hidden_size * config.num_hidden_layers * 20
    frozen = (count.total - count.trainable) * weight_bytes
    if linear_bytes is not None:
        frozen += linear * (linear_bytes - weight_bytes)
    parts = {
        "weights": (frozen + count.trainable * 4) / 1e6,
        "gradients": count.trainable * 4 / 1e6,
        "optimizer": count.trainable * 8 / 1e6,
        "activations": values * weight_bytes / 1e6,
    }
    return {**parts, "total": sum(parts.values())}


def quiet_libraries() -> None:
    """Silences progress bars and advice that would drown a lesson; warnings of errors stay."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft|torch")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def load_from_hub(loader: type, name: str, **arguments: object) -> object:
    """`loader.from_pretrained` of a packaged model, a folder or a Hub name, with an error that says what to
    do. The one place where weights are read, and so where 4-bit weights are told to stay as they are."""
    place = packaged_folder(name) if name.startswith(PACKAGED) else TINY.get(name, name)
    try:
        loaded = loader.from_pretrained(place, **arguments)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{name} could not be loaded: {first} Remedy: check the name and the network; for a gated "
            "model ask for access on its Hub page and set HF_TOKEN; or use the laptop profile "
            "(LESSONS_PROFILE=laptop), which needs no Hub."
        ) from error
    if isinstance(loaded, nn.Module):
        _forbid_repacking(loaded)
    return loaded


def _forbid_repacking(model: nn.Module) -> None:
    """Keeps 4-bit weights in one layout.

    On a CPU with AVX512_BF16, bitsandbytes repacks a layer's weights when it is first asked in inference:
    training would go on with weights that it reads wrongly, and small layers end in an error.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False

"""Models: loaded, adapted with LoRA, counted, and their memory estimated beforehand.

Contract: everything that draws random numbers takes a seed and draws them here, so that two builds are
equal. Names are "tiny" (random weights, for smoke runs), "packaged:<asset>", a local folder or a name on
the Hugging Face Hub. It does not train.
"""

import copy
import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    set_seed,
)
from transformers.utils import logging

from lessons_lib.assets import fetch_asset
from lessons_lib.data import CLASS_NAMES, SAMPLES

HEAD = ("pre_classifier", "classifier")  # the layers DistilBERT adds on top for classification
PACKAGED = "packaged:"
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


class ModelError(RuntimeError):
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


@dataclass(frozen=True)
class MemoryEstimate:
    """Megabytes (10⁶ bytes) that fine-tuning will need, by purpose."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """The sum, without Python and its libraries (about 600 MB)."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        return (
            f"about {self.total:,.0f} MB: weights {self.weights:,.0f}, gradients {self.gradients:,.0f}, "
            f"optimizer {self.optimizer:,.0f}, activations {self.activations:,.0f}"
        )


def load_classifier(
    name: str,
    *,
    seed: int,
    dropout: float | None = None,
    pooling: str = "cls",
    class_names: list[str] = CLASS_NAMES,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A sequence classifier with a fresh head drawn from `seed`, in fp32, and its tokenizer.

    name: "tiny", "packaged:all-MiniLM-L6-v2" (the BERT encoder in DistilBERT's layout), a folder, or a
    name on the Hub. dropout: the encoder's and the head's; None keeps what the model was published with.
    pooling: "cls", or "mean" (see `read_mean`). Raises ModelError when a Hub model cannot be had.
    """
    if pooling not in ("cls", "mean"):
        raise ValueError(f'pooling is {pooling!r}; remedy: "cls" or "mean".')
    config = load_config(name, class_names)
    if dropout is not None:
        set_dropout(config, dropout)
    tokenizer = load_tokenizer(name)
    if name == "tiny" or name.startswith(PACKAGED):
        weights = _encoder_weights(name, config)
        set_seed(seed)
        model = DistilBertForSequenceClassification(config)
        model.distilbert.load_state_dict(weights)
    else:
        set_seed(seed)
        model = _from_hub(AutoModelForSequenceClassification, name, config=config, dtype=torch.float32)
    return (read_mean(model) if pooling == "mean" else model).eval(), tokenizer


def read_mean(model: PreTrainedModel) -> PreTrainedModel:
    """Lets the head read the mean of all tokens instead of the first one's state.

    Sentence encoders such as MiniLM are trained to be read so. A hook writes the mean of the encoder's
    last states (batch, tokens, width), padding left out, to position 0, where the head looks. It is not
    part of the saved weights: set it again after loading.
    """

    def write_mean(module: nn.Module, args: tuple, inputs: dict, output: object) -> object:
        states = output.last_hidden_state
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        mean = (states * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        output.last_hidden_state = torch.cat([mean, states[:, 1:]], 1)
        return output

    model.base_model.register_forward_hook(write_mean, with_kwargs=True)
    return model


def load_config(name: str, class_names: list[str] = CLASS_NAMES) -> DistilBertConfig:
    """The configuration `load_classifier` will build from; loads no weights."""
    labels = {"id2label": dict(enumerate(class_names)), "label2id": {c: n for n, c in enumerate(class_names)}}
    if name == "tiny":
        return DistilBertConfig(vocab_size=400, dim=32, n_layers=2, n_heads=4, hidden_dim=64, **labels)
    if name.startswith(PACKAGED):
        bert = AutoConfig.from_pretrained(_packaged_folder(name))
        return distilbert_config(bert, **labels)
    return _from_hub(AutoConfig, name, **labels)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to a model's name."""
    if name == "tiny":
        return _build_tiny_tokenizer()
    return _from_hub(AutoTokenizer, _packaged_folder(name) if name.startswith(PACKAGED) else name)


def distilbert_config(bert: AutoConfig, **changes: object) -> DistilBertConfig:
    """The DistilBERT configuration that computes what a BERT of configuration `bert` computes."""
    return DistilBertConfig(
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


def set_dropout(config: AutoConfig, dropout: float) -> None:
    """Sets every dropout probability of a configuration."""
    for field in ("dropout", "attention_dropout", "seq_classif_dropout", "hidden_dropout_prob"):
        if hasattr(config, field):
            setattr(config, field, dropout)


def add_lora(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """The model with LoRA layers drawn from `seed`; base weights frozen, the head trained in full.

    PEFT draws the matrices A here, before any Trainer sets a seed, so the seed is set here too.
    """
    set_seed(seed)
    return get_peft_model(model, config)


def freeze_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """Leaves only the classification head trainable."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = _is_head(name)
    return model


def count_parameters(model: nn.Module) -> ParameterCount:
    """Parameters in total and trainable, with LoRA's and the head's counted apart."""
    lora = head = base = total = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if not parameter.requires_grad:
            continue
        if "lora_" in name:
            lora += parameter.numel()
        elif _is_head(name):
            head += parameter.numel()
        else:
            base += parameter.numel()
    return ParameterCount(total, lora, head, base)


def estimate_memory(
    name: str, *, lora: LoraConfig | None, batch_size: int, tokens: int, weight_bytes: int = 4
) -> MemoryEstimate:
    """Memory that fine-tuning model `name` will need, from its configuration alone (no weights loaded).

    lora: None for full fine-tuning. weight_bytes: 4 for fp32, 2 for bf16. Trained parameters count 4
    bytes each for the gradient and 8 for AdamW's two moments. Activations are what the backward pass
    keeps in a transformer layer with fused attention: about 20 values of the hidden width a token.
    """
    config = load_config(name)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
        model = get_peft_model(model, copy.deepcopy(lora)) if lora else model
    count = count_parameters(model)
    values = batch_size * tokens * config.hidden_size * config.num_hidden_layers * 20
    frozen = count.total - count.trainable
    return MemoryEstimate(
        weights=(frozen * weight_bytes + count.trainable * 4) / 1e6,
        gradients=count.trainable * 4 / 1e6,
        optimizer=count.trainable * 8 / 1e6,
        activations=values * weight_bytes / 1e6,
    )


def folder_megabytes(folder: str | Path) -> float:
    """Size of a saved model or adapter in MB (10⁶ bytes)."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


def hash_weights(model: nn.Module, keep: Callable[[str], bool] = lambda name: True) -> str:
    """A SHA-256 over the parameters whose names `keep` accepts: equal if and only if they are, to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if keep(name):
            digest.update(
                name.encode()
                + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            )
    return digest.hexdigest()


def quiet_libraries() -> None:
    """Silences progress bars and advice that would drown a lesson; warnings of errors stay."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft|torch")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _is_head(name: str) -> bool:
    return any(part in HEAD or part == "score" for part in name.split("."))


def _packaged_folder(name: str) -> Path:
    return fetch_asset(name.removeprefix(PACKAGED))


def _encoder_weights(name: str, config: DistilBertConfig) -> dict[str, torch.Tensor]:
    if name == "tiny":  # random, but like a pretrained encoder the same for every seed
        set_seed(0)
        return DistilBertModel(config).state_dict()
    bert = BertModel.from_pretrained(_packaged_folder(name), dtype=torch.float32)
    return convert_bert_weights(bert.state_dict())


def _from_hub(loader: type, name: str | Path, **arguments: object) -> object:
    """`loader.from_pretrained`, with an error that says what to do."""
    try:
        return loader.from_pretrained(name, **arguments)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{name} could not be loaded: {first} Remedy: check the name and the network; for a gated "
            "model ask for access on its Hub page and set HF_TOKEN; or use the laptop profile "
            "(LESSONS_PROFILE=laptop), which needs no Hub."
        ) from error


def _build_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over the letters and the 300 commonest words of the course's own samples.

    Built by counting: the library's trainer breaks ties differently in every process.
    """
    text = (SAMPLES / "movie_reviews.csv").read_text(encoding="utf-8").lower()
    counts = Counter(re.findall(r"\w+", text))
    words = sorted(counts, key=lambda word: (-counts[word], word))[:300]
    signs = sorted(set(text) - set(" \n"))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = dict.fromkeys([*special, *signs, *(f"##{sign}" for sign in signs), *words])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **dict(names))

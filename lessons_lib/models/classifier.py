"""Sequence classifiers: an encoder or a decoder with a fresh head.

Contract: everything that draws random numbers takes a seed and draws them here, so that two builds
are equal. It does not train.
"""

import torch
import transformers
from transformers import set_seed

from lessons_lib.data import CLASS_NAMES
from lessons_lib.errors import SettingError
from lessons_lib.hardware import pick_device
from lessons_lib.models.distilbert import convert_bert_weights, distilbert_config
from lessons_lib.models.load import PACKAGED, ModelError, load_pretrained, load_tokenizer
from lessons_lib.models.pooling import MeanPooledConfig

POOLINGS = ("cls", "mean")


def load_classifier(
    name: str,
    *,
    seed: int,
    dropout: float | None = None,
    pooling: str = "cls",
    class_names: list[str] = CLASS_NAMES,
    quantization_config: transformers.BitsAndBytesConfig | None = None,
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """A sequence classifier with a fresh head drawn from `seed`, in fp32, on the GPU if there is
    one; its tokenizer.

    name: "tiny", "packaged:all-MiniLM-L6-v2" (the BERT encoder in DistilBERT's layout), another
    packaged model, a folder, or a name on the Hub. dropout: the encoder's and the head's; None
    keeps what the model was published with. pooling: "cls", or "mean" (see `MeanPooledClassifier`).
    quantization_config: how the weights are kept, the head's left out. Raises ModelError when a Hub
    model cannot be had.
    """
    if pooling not in POOLINGS:
        raise SettingError(f"there is no pooling {pooling!r}.", remedy='pooling="cls" or "mean".')
    config = load_config(name, class_names)
    if pooling == "mean":
        config = _mean_pooled(config, name)
    if dropout is not None:
        config.update({field: dropout for field in vars(config) if "dropout" in field})
    tokenizer = load_tokenizer(name)
    # a decoder's head reads the last token before padding
    config.pad_token_id = tokenizer.pad_token_id
    if isinstance(config, transformers.DistilBertConfig) and name.startswith(PACKAGED):
        model = _convert_bert(name, config, seed)
    else:
        set_seed(seed)
        model = load_pretrained(
            transformers.AutoModelForSequenceClassification,
            name,
            config=config,
            dtype=torch.float32,
            quantization_config=quantization_config,
        )
    if not quantization_config:
        model = model.to(pick_device())
    return model.eval(), tokenizer


def _mean_pooled(config: transformers.PretrainedConfig, name: str) -> MeanPooledConfig:
    """The same configuration, of a model whose head reads the mean."""
    if not isinstance(config, transformers.DistilBertConfig):
        raise SettingError(f"{name} reads its states in its own way.", remedy='pooling="cls".')
    values = config.to_dict()
    del values["model_type"]
    return MeanPooledConfig(**values)


def _convert_bert(
    name: str, config: transformers.DistilBertConfig, seed: int
) -> transformers.DistilBertForSequenceClassification:
    """A packaged BERT encoder in DistilBERT's layout, under a head drawn from `seed`."""
    bert = load_pretrained(transformers.BertModel, name, dtype=torch.float32)
    set_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.distilbert.load_state_dict(convert_bert_weights(bert.state_dict()))
    return model


def load_config(name: str, class_names: list[str] = CLASS_NAMES) -> transformers.PretrainedConfig:
    """The configuration `load_classifier` will build from; loads no weights."""
    labels = {
        "id2label": dict(enumerate(class_names)),
        "label2id": {c: n for n, c in enumerate(class_names)},
    }
    # a classifier writes nothing, so it needs no cache: 1 MB per token with a head on Llama-2-7B
    config = load_pretrained(transformers.AutoConfig, name, use_cache=False, **labels)
    if name.startswith(PACKAGED) and config.model_type == "bert":
        return distilbert_config(config, **labels)
    return config


def check_class_names(model: transformers.PreTrainedModel, class_names: list[str]) -> None:
    """Raises ModelError unless the model numbers its classes as the data does: else its answers are
    confident nonsense, for every loss and score works on numbers."""
    own = [str(model.config.id2label.get(number)) for number in range(model.config.num_labels)]
    if [name.lower() for name in own] != [name.lower() for name in class_names]:
        raise ModelError(
            f"The model's classes are {own}, the data's {class_names}.",
            remedy="train it with class_names=… of the data, or bring its columns into the data's "
            "order by name.",
        )

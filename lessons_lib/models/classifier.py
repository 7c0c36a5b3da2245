"""Sequence classifiers: an encoder or a decoder with a fresh head.

Contract: everything that draws random numbers takes a seed and draws them here, so that two builds
are equal. It does not train.
"""

import torch
import transformers
from torch import nn
from transformers import set_seed

from lessons_lib.data import CLASS_NAMES
from lessons_lib.errors import SettingError
from lessons_lib.hardware import pick_device
from lessons_lib.models.distilbert import convert_bert_weights, distilbert_config
from lessons_lib.models.load import PACKAGED, ModelError, load_from_hub, load_tokenizer


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
    keeps what the model was published with. pooling: "cls", or "mean" (see `read_mean`).
    quantization_config: how the weights are kept, the head's left out. Raises ModelError when a Hub
    model cannot be had.
    """
    if pooling not in ("cls", "mean"):
        raise SettingError(f"there is no pooling {pooling!r}.", remedy='pooling="cls" or "mean".')
    config = load_config(name, class_names)
    if pooling == "mean" and config.model_type != "distilbert":
        raise SettingError(f"{name} reads its states in its own way.", remedy='pooling="cls".')
    if dropout is not None:
        config.update({name: dropout for name in vars(config) if "dropout" in name})
    tokenizer = load_tokenizer(name)
    # a decoder's head reads the last token before padding
    config.pad_token_id = tokenizer.pad_token_id
    if config.model_type == "distilbert" and name.startswith(PACKAGED):
        weights = convert_bert_weights(
            load_from_hub(transformers.BertModel, name, dtype=torch.float32).state_dict()
        )
        set_seed(seed)
        model = transformers.DistilBertForSequenceClassification(config)
        model.distilbert.load_state_dict(weights)
    else:
        set_seed(seed)
        options = {
            "config": config,
            "dtype": torch.float32,
            "quantization_config": quantization_config,
        }
        model = load_from_hub(transformers.AutoModelForSequenceClassification, name, **options)
    model = read_mean(model) if pooling == "mean" else model
    if not quantization_config:
        model = model.to(pick_device())
    return model.eval(), tokenizer


def read_mean(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """Lets the head read the mean of all tokens instead of the first one's state.

    Sentence encoders such as MiniLM are trained to be read so. A hook writes the mean of the
    encoder's last states (batch, tokens, width), padding left out, to position 0, where the head
    looks. It is not part of the saved weights: set it again after loading.
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
    labels = {
        "id2label": dict(enumerate(class_names)),
        "label2id": {c: n for n, c in enumerate(class_names)},
    }
    # a classifier writes nothing, so it needs no cache: 1 MB a token with a head on Llama-2-7B
    config = load_from_hub(transformers.AutoConfig, name, use_cache=False, **labels)
    if name.startswith(PACKAGED) and config.model_type == "bert":
        return distilbert_config(config, **labels)
    return config


def check_class_names(model: transformers.PreTrainedModel, class_names: list[str]) -> None:
    """Raises ModelError unless the model numbers its classes as the data does: else its answers are
    confident nonsense, for every loss and score works on numbers."""
    own = [str(model.config.id2label.get(number)) for number in range(model.config.num_labels)]
    if [name.lower() for name in own] != [name.lower() for name in class_names]:
        raise ModelError(
            f"The model's classes are {own}, the data's {class_names}. Remedy: train it with "
            "class_names=… of the data, or bring its columns into the data's order by name."
        )

"""Models: loaded by name, adapted with LoRA, counted, their memory estimated; and classical
baselines.
"""

from lessons_lib.models.baselines import (
    STRENGTHS,
    WORDS,
    NaiveBayesWeights,
    fit_linear_probe,
    fit_majority,
    fit_nbsvm,
    fit_tfidf,
    fit_vader,
    score_vader,
)
from lessons_lib.models.classifier import check_class_names, load_classifier, load_config, read_mean
from lessons_lib.models.decoder import choose_decoder, load_decoder, render_chat, render_messages
from lessons_lib.models.distilbert import (
    BERT_TO_DISTILBERT,
    convert_bert_weights,
    distilbert_config,
)
from lessons_lib.models.load import (
    PACKAGED,
    TINY,
    ModelError,
    load_from_hub,
    load_tokenizer,
    packaged_folder,
    quiet_libraries,
)
from lessons_lib.models.lora import add_lora
from lessons_lib.models.memory import HEAD, ParameterCount, count_parameters, estimate_memory

__all__ = [
    "BERT_TO_DISTILBERT",
    "HEAD",
    "PACKAGED",
    "STRENGTHS",
    "TINY",
    "WORDS",
    "ModelError",
    "NaiveBayesWeights",
    "ParameterCount",
    "add_lora",
    "check_class_names",
    "choose_decoder",
    "convert_bert_weights",
    "count_parameters",
    "distilbert_config",
    "estimate_memory",
    "fit_linear_probe",
    "fit_majority",
    "fit_nbsvm",
    "fit_tfidf",
    "fit_vader",
    "load_classifier",
    "load_config",
    "load_decoder",
    "load_from_hub",
    "load_tokenizer",
    "packaged_folder",
    "quiet_libraries",
    "read_mean",
    "render_chat",
    "render_messages",
    "score_vader",
]

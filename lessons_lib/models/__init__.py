"""Models: loaded by name, adapted with LoRA, counted, their memory estimated; and classical
baselines."""

from lessons_lib.models.baselines import (
    NaiveBayesWeights,
    fit_linear_probe,
    fit_majority,
    fit_nbsvm,
    fit_tfidf,
    fit_vader,
)
from lessons_lib.models.classifier import check_class_names, load_classifier
from lessons_lib.models.decoder import load_decoder, render_chat, render_messages, resolve_decoder
from lessons_lib.models.distilbert import convert_bert_weights, distilbert_config
from lessons_lib.models.load import ModelError, load_tokenizer, locate_model, quiet_libraries
from lessons_lib.models.lora import add_lora
from lessons_lib.models.memory import (
    HEAD,
    ParameterCount,
    count_bytes,
    count_parameters,
    estimate_memory,
)
from lessons_lib.models.pooling import MeanPooledClassifier, average_tokens

__all__ = [
    "HEAD",
    "MeanPooledClassifier",
    "ModelError",
    "NaiveBayesWeights",
    "ParameterCount",
    "add_lora",
    "average_tokens",
    "check_class_names",
    "convert_bert_weights",
    "count_bytes",
    "count_parameters",
    "distilbert_config",
    "estimate_memory",
    "fit_linear_probe",
    "fit_majority",
    "fit_nbsvm",
    "fit_tfidf",
    "fit_vader",
    "load_classifier",
    "load_decoder",
    "load_tokenizer",
    "locate_model",
    "quiet_libraries",
    "render_chat",
    "render_messages",
    "resolve_decoder",
]

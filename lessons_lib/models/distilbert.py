"""A BERT encoder as a DistilBERT: the same computation under other names."""

import re

import torch
import transformers

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


def distilbert_config(
    bert: transformers.AutoConfig, **changes: object
) -> transformers.DistilBertConfig:
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

    DistilBERT has no token types, so row 0 (all that one sentence uses) is added to every position;
    it has no pooler, so that is dropped.
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

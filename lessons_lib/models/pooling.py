"""A DistilBERT whose head reads the mean of all tokens instead of the first token's state.

Sentence encoders such as MiniLM are trained to be read so. Contract: how the head reads is part of
the class and of the saved configuration. So `save_pretrained` and `from_pretrained` keep it, and
where this library is not imported, loading fails aloud instead of reading the wrong state.
"""

import torch
import transformers
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput


def average_tokens(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The mean state (rows, width) of real tokens.

    states: (rows, tokens, width). attention_mask: (rows, tokens), 0 where a row is padded.

    >>> average_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    mask = attention_mask[..., None].to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


class MeanPooledConfig(transformers.DistilBertConfig):
    """A DistilBERT's configuration under a name of its own."""

    model_type = "mean_pooled_distilbert"


class MeanPooledClassifier(transformers.DistilBertForSequenceClassification):
    """`DistilBertForSequenceClassification` but for the state that its head reads: the mean over
    all real tokens. Its parameters have the same names and shapes."""

    config_class = MeanPooledConfig

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: object,
    ) -> SequenceClassifierOutput:
        """Logits (rows, classes) and, where `labels` (rows) are given, their mean cross entropy.
        attention_mask: (rows, tokens); without one all tokens are real."""
        output = self.distilbert(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        states = output.last_hidden_state
        if attention_mask is None:
            attention_mask = torch.ones(states.shape[:2], device=states.device)
        pooled = average_tokens(states, attention_mask)
        hidden = self.dropout(torch.relu(self.pre_classifier(pooled)))
        logits = self.classifier(hidden)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


transformers.AutoConfig.register(MeanPooledConfig.model_type, MeanPooledConfig)
transformers.AutoModelForSequenceClassification.register(MeanPooledConfig, MeanPooledClassifier)

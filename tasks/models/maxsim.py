"""A cross-encoder that compares word by word, as transformers' AutoModelForSequenceClassification loads it.

    [CLS] query [SEP] passage [SEP]  →  logit

1. The body, a BERT, encodes query and passage apart, each as if it stood alone: PreTTR's split attention, MacAvaney et
   al. 2020, "Efficient Document Re-Ranking for Transformers by Precomputing Term Representations".
2. Each word of the query finds its nearest in the passage: ColBERT's MaxSim, Khattab and Zaharia 2020, here a mean by
   the words' weights.
3. The query's tokens read the passage in further layers, and the first adds what it made of it: as in CEDR, MacAvaney
   et al. 2019, "Contextualized Embeddings for Document Ranking".

So an embedder orders well before it is trained: its tokens' vectors match, and the readers add nothing yet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import normalize, pad
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertLayer

MODEL_TYPE = "headrace-maxsim"

# The first logit is so many times a mean cosine: of one pool they differ by some 0.07, logits should by about one.
SHARPNESS = 20.0


class MaxSimConfig(BertConfig):  # type: ignore[misc]
    """BERT's, and how many layers read."""

    model_type = MODEL_TYPE

    def __init__(self, reading_layers: int = 2, **others: Any) -> None:
        super().__init__(**others)
        self.reading_layers = reading_layers


class MaxSimForSequenceClassification(BertPreTrainedModel):  # type: ignore[misc]
    """The model."""

    config_class = MaxSimConfig

    def __init__(self, config: MaxSimConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.reading = torch.nn.ModuleList(BertLayer(config) for _ in range(config.reading_layers))
        # a query word's weight: how rare it is, times e to what its vector says
        self.rarity = torch.nn.Embedding(config.vocab_size, 1)
        self.importance = torch.nn.Linear(config.hidden_size, 1)
        self.sharpness = torch.nn.Parameter(torch.full((1,), SHARPNESS))
        self.classifier = torch.nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        """int64[batch, tokens] each, as of a BERT tokenizer's pairs → logits float32[batch, 1]."""
        there = attention_mask.bool()
        query = there & (token_type_ids == 0)
        # alone, the passage would begin with a [CLS]: it is given the place of the [SEP] before it
        middle = query & ~pad(query[:, 1:], (0, 1))
        query, passage = query & ~middle, there & (~query | middle)
        tokens = torch.where(middle, input_ids[:, :1], input_ids)
        length = query.sum(1, keepdim=True)
        counted = torch.arange(input_ids.shape[1], device=input_ids.device)
        places = torch.where(query, counted, (counted - length).clamp(min=0))
        vectors = self._encoded(tokens, places, query, there)

        asked = length.max()  # the queries' tokens are the first of the batch's rows
        words = query & (places > 0), passage & (places > 0) & pad(passage[:, 1:], (0, 1))
        logits = self.sharpness * self._matched(vectors, tokens, words, asked)
        return SequenceClassifierOutput(logits=logits + self._read(vectors, query, passage, asked))

    def _encoded(
        self, tokens: torch.Tensor, places: torch.Tensor, query: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """float32[batch, tokens, dim]: attention stays within the query, or within the passage."""
        vectors: torch.Tensor = self.bert.embeddings(
            tokens, token_type_ids=torch.zeros_like(tokens), position_ids=places
        )
        mask = _mask((query[:, :, None] == query[:, None, :]) & there[:, None, :], vectors.dtype)[:, None]
        for layer in self.bert.encoder.layer:
            vectors = layer(vectors, mask)
        return vectors

    def _matched(
        self, vectors: torch.Tensor, tokens: torch.Tensor, words: tuple[torch.Tensor, torch.Tensor], asked: torch.Tensor
    ) -> torch.Tensor:
        """float32[batch, 1]: the mean cosine of a query's words and those of the passage that are nearest to them."""
        asking, answering = words
        units = normalize(vectors, dim=-1)
        cosines = units[:, :asked] @ units.transpose(1, 2)
        nearest = cosines.masked_fill(~answering[:, None], -1).amax(2)
        weights = self.rarity(tokens[:, :asked]).clamp(min=0) * torch.exp(self.importance(vectors[:, :asked]))
        weights = weights.squeeze(-1) * asking[:, :asked]
        mean: torch.Tensor = (nearest * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1e-6)
        return mean

    def _read(
        self, vectors: torch.Tensor, query: torch.Tensor, passage: torch.Tensor, asked: torch.Tensor
    ) -> torch.Tensor:
        """float32[batch, 1]: what the query's first token says after the query's tokens have read the passage."""
        rows = vectors[:, :asked]
        mask = _mask(torch.cat([query[:, :asked], passage], 1), vectors.dtype)[:, None, None]
        for layer in self.reading:
            rows = attend(layer, rows, torch.cat([rows, vectors], 1), mask)
        logits: torch.Tensor = self.classifier(rows[:, 0])
        return logits


def attend(layer: Any, rows: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """A layer of BERT in which `rows`, float32[batch, rows, dim], read `tokens`, float32[batch, tokens, dim]."""
    attention = layer.attention.self

    def heads(linear: torch.nn.Module, read: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = linear(read)
        return whole.view(*whole.shape[:2], -1, attention.attention_head_size).transpose(1, 2)

    products = heads(attention.query, rows) @ heads(attention.key, tokens).transpose(2, 3) * attention.scaling
    weights = torch.softmax(products if mask is None else products + mask, dim=-1)
    read = (weights @ heads(attention.value, tokens)).transpose(1, 2).flatten(2)
    attended = layer.attention.output(read, rows)
    after: torch.Tensor = layer.output(layer.intermediate(attended), attended)
    return after


def _mask(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to attention's products: nothing where `seen`."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


AutoConfig.register(MODEL_TYPE, MaxSimConfig)
AutoModelForSequenceClassification.register(MaxSimConfig, MaxSimForSequenceClassification)

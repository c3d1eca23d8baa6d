"""A reranker that compares word by word, as transformers' AutoModelForSequenceClassification loads it.

    [CLS] query [SEP] passage [SEP]  →  logit

1. The body, a BERT, encodes the query and the passage, in windows: each as if it stood alone, and none longer than
   what a sentence embedder was trained to read. So a passage can be read long before it is asked for
   (tasks.models.late_interaction). Of a window it may read the words alone that tell it from others, as in Lassance et
   al. 2021, "A Study on Token Pruning for ColBERT", and a word's vector may be projected to fewer dimensions.
2. Each word of the query finds its nearest in the passage. The logit is the mean of their cosines, by the rarity of the
   query's words: MaxSim of Khattab and Zaharia 2020, "ColBERT: Efficient and Effective Passage Search via
   Contextualized Late Interaction over BERT".

So an embedder orders well before it is trained, because the vectors of its tokens match.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from tasks.models.folders import MODEL_TYPE

# The first logit is so many times a mean cosine: of one pool they differ by some 0.07, logits should by about one.
SHARPNESS = 20.0

# Which words are read is decided in this order; a rarity is some 15 at most.
ALWAYS, REPEATED, LATER = 1e6, 100.0, 1e-4


class MaxSimConfig(BertConfig):  # type: ignore[misc]
    """BERT's, and how much of a passage is encoded together, and to what."""

    model_type = MODEL_TYPE

    def __init__(
        self, window_words: int = 126, words_read: int | None = None, word_dim: int | None = None, **others: Any
    ) -> None:
        super().__init__(**others)
        self.window_words = window_words
        self.words_read = words_read  # of a window, or half of its words where that is more; None for all
        self.word_dim = word_dim  # dimensions of a word's vector; None for the body's own


class Tokens(NamedTuple):
    """Of texts, each in any number of windows."""

    places: torch.Tensor  # int64[batch, windows, tokens], in the window
    ids: torch.Tensor  # int64[batch, windows, tokens]
    there: torch.Tensor  # bool[batch, windows, tokens]: no padding
    words: torch.Tensor  # bool[batch, windows, tokens]: neither padding nor [CLS] nor [SEP]


class MaxSimForSequenceClassification(BertPreTrainedModel):  # type: ignore[misc]
    """The model."""

    config_class = MaxSimConfig

    def __init__(self, config: MaxSimConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.projection = torch.nn.Linear(config.hidden_size, config.word_dim) if config.word_dim else None
        self.rarity = torch.nn.Embedding(config.vocab_size, 1)  # a query word's weight
        self.sharpness = torch.nn.Parameter(torch.full((1,), SHARPNESS))
        self.post_init()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        """int64[batch, tokens] each, as of a BERT tokenizer's pairs → logits float32[batch, 1]."""
        asked = (attention_mask * (1 - token_type_ids)).sum(1, keepdim=True)  # tokens, [CLS] and [SEP] counted
        query, weights = self.read(input_ids, torch.ones_like(asked), asked - 2)
        passage, found = self.read(input_ids, asked, attention_mask.sum(1, keepdim=True) - asked - 1)
        cosines = (query @ passage.transpose(1, 2)).masked_fill((found < 0)[:, None], -1)
        logits = (cosines.amax(2) * weights.clamp(min=0)).sum(1, keepdim=True)
        return SequenceClassifierOutput(logits=logits)

    def read(
        self, input_ids: torch.Tensor, before: torch.Tensor, words: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Texts of `words` tokens after `before` others, int64[batch, 1] each: vectors and weights of their tokens.

        float32[batch, tokens, dim], of unit norm, and float32[batch, tokens]: a logit is the sum of a query's cosines
        times its weights; -1 marks what is no word.
        """
        tokens = self.windows(input_ids, before, words)
        if self.config.words_read:
            tokens = self.telling(tokens)
        weights = self.rarity(tokens.ids).squeeze(-1).clamp(min=0) * tokens.words
        weights = self.sharpness * weights / weights.sum((1, 2), keepdim=True).clamp(min=1e-6)
        return self.units(tokens), torch.where(tokens.words, weights, -1).flatten(1)

    def windows(self, input_ids: torch.Tensor, before: torch.Tensor, words: torch.Tensor) -> Tokens:
        """The windows of a text are as few as can be, of one length, and evenly spread.

        Where that does not come out even they overlap, so that none is padded, which an int8 graph for one text a call
        relies on.
        """
        windows = ((words + self.config.window_words - 1) // self.config.window_words).clamp(min=1)
        size = (words + windows - 1) // windows
        window = torch.arange(windows.max(), device=words.device)
        place = torch.arange(size.max() + 2, device=words.device)
        starts = window * (words - size) // (windows - 1).clamp(min=1)
        columns = (before + starts)[:, :, None] + place - 1
        size, there = size[:, :, None], (window < windows)[:, :, None]
        ids = input_ids.gather(1, columns.clamp(max=input_ids.shape[1] - 1).flatten(1)).view(columns.shape)
        ids = torch.where(place == 0, input_ids[:, :1, None], ids)
        ids = torch.where(place == size + 1, input_ids.gather(1, before + words)[:, :, None], ids)
        return Tokens(place.expand(ids.shape), ids, there & (place < size + 2), there & (place > 0) & (place <= size))

    def telling(self, tokens: Tokens) -> Tokens:
        """Of each window the words to read, in their order: no repeat as long as there are others, and the rarest.

        A query's word finds its nearest in one of a kind about as well as in all of them. What is lost is rather what
        the others told of each word, so a short window is read nearly whole.
        """
        places, ids, there, words = tokens
        again = ((ids[..., None] == ids[..., None, :]) & (places[..., None] > places[..., None, :])).any(-1)
        rarity = self.rarity(ids).squeeze(-1).clamp(min=0) - REPEATED * again - LATER * places
        first = torch.where(words, rarity, torch.where(there, ALWAYS, -ALWAYS)).argsort(dim=-1, descending=True)
        count = words.sum(-1, keepdim=True)
        read = ((count + 1) // 2).clamp(min=self.config.words_read).minimum(count) + 2  # and [CLS] and [SEP]
        chosen, rank = first[..., : read.max()].sort(dim=-1)
        places, ids, there, words = (of_all.gather(-1, chosen) for of_all in tokens)
        return Tokens(places, ids, there & (rank < read), words & (rank < read))

    def units(self, tokens: Tokens) -> torch.Tensor:
        """float32[batch, windows times tokens, dim]: vectors of unit norm."""
        vectors = self.bert.embeddings(tokens.ids.flatten(0, 1), position_ids=tokens.places.flatten(0, 1))
        mask = torch.zeros(vectors.shape[:2], dtype=vectors.dtype, device=vectors.device)
        mask = mask.masked_fill(~tokens.there.flatten(0, 1), torch.finfo(vectors.dtype).min)[:, None, None]
        for layer in self.bert.encoder.layer:
            vectors = layer(vectors, mask)
        if self.projection is not None:
            vectors = self.projection(vectors)
        return normalize(vectors, dim=-1).view(tokens.ids.shape[0], -1, vectors.shape[2])


AutoConfig.register(MODEL_TYPE, MaxSimConfig)
AutoModelForSequenceClassification.register(MaxSimConfig, MaxSimForSequenceClassification)

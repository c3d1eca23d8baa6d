"""The model before training: an encoder becomes a reranker that compares word by word."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from transformers import BertModel

from tasks.models.folders import copy_tokenizer, describe
from tasks.models.maxsim import MaxSimConfig, MaxSimForSequenceClassification


def start(encoder: Path, passages: Iterable[str], into: Path) -> None:
    """Write the model of the folder `encoder`, a BERT, into `into`, ready to be trained on `passages`."""
    model = MaxSimForSequenceClassification(MaxSimConfig.from_pretrained(encoder, num_labels=1, local_files_only=True))
    body = BertModel.from_pretrained(encoder, add_pooling_layer=False, local_files_only=True)
    model.bert.load_state_dict(body.state_dict())
    with torch.no_grad():
        model.rarity.weight[:, 0] = torch.from_numpy(rarity(encoder, set(passages), model.config.vocab_size))
    model.save_pretrained(into)
    copy_tokenizer(encoder, into)


def rarity(encoder: Path, passages: set[str], vocabulary: int) -> np.ndarray:
    """float32[vocabulary]: of every word piece its inverse document frequency, ln(1 + n / (1 + passages with it))."""
    tokenizer = describe(encoder).tokenizer()
    found = np.zeros(vocabulary)
    for encoding in tokenizer.encode_batch_fast(sorted(passages), add_special_tokens=False):
        found[list(set(encoding.ids))] += 1
    return np.log(1 + len(passages) / (1 + found)).astype(np.float32)

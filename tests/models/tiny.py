"""Tiny BERT models with random weights, in the hub's folder layout, for tests of loading, exporting and scoring."""

from __future__ import annotations

import shutil
from pathlib import Path

from schemas.settings import Settings
from tasks.models.resolve import resolve


def make_tiny(folder: Path, *, logits: int | None, seed: int = 0) -> Path:
    """A two-layer BERT: a plain encoder, or a sequence classifier with `logits` outputs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(seed)
    # wide random weights, so that outputs differ enough to tell a wrong order from a right one
    sizes = {
        "vocab_size": 30522,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.5,
    }
    if logits is None:
        BertModel(BertConfig(**sizes)).save_pretrained(folder)
    else:
        BertForSequenceClassification(BertConfig(**sizes, num_labels=logits)).save_pretrained(folder)
    bundled = resolve("all-MiniLM-L6-v2", Settings())
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(bundled / name, folder)
    return folder


def make_tiny_encoder(folder: Path, seed: int = 0) -> Path:
    """An encoder of 32 dimensions; mean pooling, as nothing says otherwise."""
    return make_tiny(folder, logits=None, seed=seed)


def make_tiny_cross_encoder(folder: Path, seed: int = 0) -> Path:
    """A reranker with one logit."""
    return make_tiny(folder, logits=1, seed=seed)

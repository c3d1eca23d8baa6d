"""Tiny models with random weights, in the hub's folder layout, for tests of loading, exporting and scoring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from schemas.settings import Settings
from tasks.models.resolve import resolve
from tests.conftest import CORPUS

# wide random weights, so that outputs differ enough to tell a wrong order from a right one
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.5,
}


def make_tiny(folder: Path, *, logits: int | None, seed: int = 0) -> Path:
    """A two-layer BERT: a plain encoder, or a sequence classifier with `logits` outputs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(seed)
    if logits is None:
        BertModel(BertConfig(**_SIZES, vocab_size=30522)).save_pretrained(folder)
    else:
        BertForSequenceClassification(BertConfig(**_SIZES, vocab_size=30522, num_labels=logits)).save_pretrained(folder)
    _copy_tokenizer(folder)
    return folder


def _copy_tokenizer(folder: Path) -> None:
    bundled = resolve("all-MiniLM-L6-v2", Settings())
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(bundled / name, folder)


def make_tiny_encoder(folder: Path, seed: int = 0) -> Path:
    """An encoder of 32 dimensions; mean pooling, as nothing says otherwise."""
    return make_tiny(folder, logits=None, seed=seed)


def make_tiny_cross_encoder(folder: Path, seed: int = 0) -> Path:
    """A reranker with one logit."""
    return make_tiny(folder, logits=1, seed=seed)


def make_tiny_maxsim(folder: Path, **sizes: int) -> Path:
    """A reranker that compares word by word, every weight of it drawn; `sizes` as of its config."""
    import torch

    from tasks.models.maxsim import MaxSimConfig, MaxSimForSequenceClassification

    torch.manual_seed(0)
    model = MaxSimForSequenceClassification(
        MaxSimConfig(**_SIZES, vocab_size=30522, num_labels=1, **{"window_words": 20} | sizes)
    )
    torch.nn.init.uniform_(model.rarity.weight, 0.5, 8)
    model.save_pretrained(folder)
    _copy_tokenizer(folder)
    return folder


def make_tiny_shortened(folder: Path) -> Path:
    """The same, of a window of 20 words reading 12, each as 16 dimensions."""
    return make_tiny_maxsim(folder, words_read=12, word_dim=16)


def make_tiny_xlm_roberta(folder: Path) -> Path:
    """A reranker as BAAI/bge-reranker-base: no token types, padding is token 1 and positions start behind it."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    torch.manual_seed(0)
    XLMRobertaForSequenceClassification(
        XLMRobertaConfig(**_SIZES, vocab_size=1000, max_position_embeddings=514, type_vocab_size=1, num_labels=1)
    ).save_pretrained(folder)
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    _save_unigram_tokenizer(folder, special, "<s> $A </s> </s> $B </s>")
    return folder


def make_tiny_deberta(folder: Path) -> Path:
    """A reranker as mixedbread-ai/mxbai-rerank-xsmall-v1: relative positions, no token types in the model."""
    import torch
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    torch.manual_seed(0)
    relative = {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 32,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    }
    DebertaV2ForSequenceClassification(
        DebertaV2Config(**_SIZES, **relative, vocab_size=1000, type_vocab_size=0, num_labels=1)
    ).save_pretrained(folder)
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    _save_unigram_tokenizer(folder, special, "[CLS] $A [SEP] $B:1 [SEP]:1")
    return folder


def _save_unigram_tokenizer(folder: Path, special: dict[str, str], pair: str) -> None:
    """SentencePiece's kind, trained on the sample corpus; special tokens get the first ids in their order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokens = list(special.values())
    trainer = trainers.UnigramTrainer(vocab_size=1000, special_tokens=tokens, unk_token=special["unk_token"])
    tokenizer.train_from_iterator((path.read_text() for path in sorted(CORPUS.glob("*.md"))), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=pair.partition(" $B")[0], pair=pair, special_tokens=[(token, i) for i, token in enumerate(tokens)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {**special, "model_max_length": 512, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))

"""Tiny late-interaction and text-to-text models with random weights, in the layouts that are published."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import CORPUS
from tests.models.tiny import make_tiny_encoder


def make_tiny_colbert(folder: Path) -> Path:
    """As sentence-transformers saves one, with markers before query and passage."""
    import torch
    from sentence_transformers import MultiVectorEncoder

    encoder = make_tiny_encoder(folder.with_name(f"{folder.name}-encoder"))
    torch.manual_seed(0)
    model = MultiVectorEncoder(
        str(encoder), device="cpu", local_files_only=True, prompts={"query": "[Q] ", "document": "[D] "}
    )
    model.save_pretrained(str(folder))
    return folder


def make_tiny_stanford_colbert(folder: Path) -> Path:
    """As colbert-ir/colbertv2.0: the projection among BERT's weights, the settings in artifact.metadata."""
    import torch
    from safetensors.torch import load_file, save_file

    encoder = make_tiny_encoder(folder)
    torch.manual_seed(0)
    weights = {f"bert.{name}": value for name, value in load_file(encoder / "model.safetensors").items()}
    save_file(weights | {"linear.weight": torch.randn(16, 32)}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    about = {"query_maxlen": 32, "doc_maxlen": 180, "attend_to_mask_tokens": False, "mask_punctuation": True}
    (folder / "artifact.metadata").write_text(json.dumps(about))
    return folder


def make_tiny_t5(folder: Path, words: tuple[str, ...] = ("▁true", "▁false")) -> Path:
    """As castorini/monot5-base-msmarco: SentencePiece's own file and no tokenizer.json."""
    import sentencepiece
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        input=",".join(map(str, sorted(CORPUS.glob("*.md")))),
        model_prefix=str(folder / "spiece"),
        vocab_size=600,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=list(words),
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "initializer_factor": 5.0}
    T5ForConditionalGeneration(T5Config(vocab_size=700, decoder_start_token_id=0, **sizes)).save_pretrained(folder)
    about = {"tokenizer_class": "T5Tokenizer", "model_max_length": 512, "extra_ids": 100, "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(about | {"unk_token": "<unk>", "pad_token": "<pad>", "additional_special_tokens": []})
    )
    return folder

"""Embedders and cross-encoders. Importing this package, or running a model that was exported, imports no torch."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

from schemas.settings import Settings
from tasks.models.folders import describe
from tasks.models.resolve import resolve

# From 1.29 on ONNX Runtime reports to its maker unless this is set before it is loaded; its API call comes too late. It
# is for the processes that this one starts, too: whatever somebody set, Headrace opens no connection of its own accord.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class Encoder(Protocol):
    """Turns texts into vectors."""

    name: str
    fingerprint: str  # names the vector space: vectors of equal fingerprints may be compared; fit for a folder's name
    dim: int
    max_tokens: int  # longest input, special tokens counted; the rest of a text is cut

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, dim], rows of unit L2 norm, in the order of `texts`."""
        ...


@functools.lru_cache(maxsize=2)
def load_encoder(settings: Settings) -> Encoder:
    """The embedder that the settings ask for, once a process. Raises ModelNotFound, ModelMismatch."""
    if settings.embed_backend == "sentence-transformers":
        from tasks.models.torch_encoder import TorchEncoder

        return TorchEncoder(settings)
    from tasks.models.onnx_encoder import OnnxEncoder

    return OnnxEncoder(settings)


@functools.lru_cache(maxsize=2)
def load_tokenizer(settings: Settings) -> Tokenizer:
    """The embedder's tokenizer for counting: it neither pads nor cuts. Loads no model. Raises ModelNotFound."""
    return describe(resolve(settings.embedder, settings)).tokenizer()

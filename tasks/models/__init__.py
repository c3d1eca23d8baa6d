"""Embedders and cross-encoders. Importing this package, or running a model that was exported, imports no torch."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.models.folders import Precision, describe
from tasks.models.hardware import has_cuda, has_int8
from tasks.models.resolve import resolve
from tasks.store.files import sha256

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


def decided(settings: Settings, space: str | None) -> Settings:
    """`settings` with embed_backend and embed_precision decided where they are `auto`.

    As the vectors of `space`, a store's fingerprint, were made; for a new store as this machine is fastest.
    """
    backend, digits = settings.embed_backend, settings.embed_precision
    cuda = backend == "auto" and has_cuda()
    if digits == "auto" and space is not None:
        digits = "int8" if space.endswith("-int8") else "fp32"
    elif digits == "auto":
        digits = "int8" if backend != "sentence-transformers" and not cuda and has_int8() else "fp32"
    if backend == "auto":
        backend = "sentence-transformers" if cuda and digits == "fp32" else "onnx"
    return settings.model_copy(update={"embed_backend": backend, "embed_precision": digits})


def precision(settings: Settings) -> Precision:
    """That of the embedder, once it is `decided`."""
    return "int8" if settings.embed_precision == "int8" else "fp32"


def load_encoder(settings: Settings, space: str | None = None) -> Encoder:
    """The embedder that the settings ask for, fit for the vectors of `space`, a store's fingerprint, where it is given.

    Loaded once a process. Raises ModelNotFound, ModelMismatch.
    """
    return _encoder(only(decided(settings, space), "embed_backend", "embed_precision", "embed_threads"))


@functools.lru_cache(maxsize=2)
def _encoder(settings: Settings) -> Encoder:
    if settings.embed_backend == "onnx":
        from tasks.models.onnx_encoder import OnnxEncoder

        return OnnxEncoder(settings, precision(settings))
    if precision(settings) == "int8":
        raise ModelMismatch("sentence-transformers does not compute in int8; use --set embed_backend=onnx, or fp32")
    from tasks.models.torch_encoder import TorchEncoder

    return TorchEncoder(settings)


def load_tokenizer(settings: Settings) -> Tokenizer:
    """The embedder's tokenizer for counting: it neither pads nor cuts. Loads no model. Raises ModelNotFound."""
    return _tokenizer(only(settings))


@functools.lru_cache(maxsize=2)
def _tokenizer(settings: Settings) -> Tokenizer:
    return describe(resolve(settings.embedder, settings)).tokenizer()


def tokenizer_fingerprint(settings: Settings) -> str:
    """Names the embedder's tokenizer: the first 32 bits of its file's SHA-256, hex. Raises ModelNotFound."""
    return _tokenizer_fingerprint(only(settings))


@functools.lru_cache(maxsize=2)
def _tokenizer_fingerprint(settings: Settings) -> str:
    return sha256(resolve(settings.embedder, settings) / "tokenizer.json")[:8]


def only(settings: Settings, *names: str) -> Settings:
    """What decides a model: settings that differ in anything else share it."""
    used = {"embedder", "cache", "allow_download", *names}
    return Settings.model_construct(**{name: getattr(settings, name) for name in used})

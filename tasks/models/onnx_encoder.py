"""Embed with ONNX Runtime on the CPU: exact fp32, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from schemas.settings import Settings
from tasks.models.batching import Session
from tasks.models.export import ensure_onnx


class OnnxEncoder:
    """An Encoder over an exported graph; pooling and normalisation are inside. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, settings: Settings) -> None:
        folder, meta = ensure_onnx(settings.embedder, "encoder", settings)
        self.fingerprint = vector_space(meta.name, meta.weights_sha256)
        self.dim = meta.dim
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(meta.max_tokens)
        self._session = Session(folder / "model.onnx", meta.inputs, settings.embed_threads)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, dim], rows of unit L2 norm, in the order of `texts`."""
        rows = self._session.run(self._tokenizer.encode_batch(list(texts)))
        return np.stack(rows) if rows else np.empty((0, self.dim), dtype=np.float32)


def vector_space(name: str, weights_sha256: str) -> str:
    """Fingerprint of a model's vectors, fit for a folder's name; fp32 of every backend agrees to 1e-5."""
    return f"{name}-{weights_sha256[:8]}-fp32"

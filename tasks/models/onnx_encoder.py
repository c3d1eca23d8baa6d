"""Embed with ONNX Runtime on the CPU, in fp32 or int8; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.settings import Settings
from tasks.models.batching import BATCH_TOKENS, Session
from tasks.models.export import ensure_onnx
from tasks.models.folders import Precision, load_tokenizer_file


class OnnxEncoder:
    """An Encoder over an exported graph; pooling and normalisation are inside. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, settings: Settings, precision: Precision) -> None:
        folder, meta = ensure_onnx(settings.embedder, "encoder", precision, settings)
        self.name = meta.name
        self.sha256 = meta.weights_sha256
        self.fingerprint = meta.fingerprint
        self.dim = meta.dim
        self.max_tokens = meta.max_tokens
        self._tokenizer = load_tokenizer_file(folder / "tokenizer.json")
        self._tokenizer.enable_truncation(meta.max_tokens)
        # an int8 graph scales a whole batch's activations at once: alone, a text's vector depends on nothing else
        batch_tokens = BATCH_TOKENS if precision == "fp32" else 0
        self._session = Session(folder / "model.onnx", settings.embed_threads, batch_tokens)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, dim], rows of unit L2 norm, in the order of `texts`."""
        rows = self._session.run(self._tokenizer.encode_batch(list(texts)))
        return np.stack(rows) if rows else np.empty((0, self.dim), dtype=np.float32)

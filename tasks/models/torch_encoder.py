"""Embed with sentence-transformers: any model that it loads, on CUDA where there is a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer

from schemas.settings import Settings
from tasks.models.onnx_encoder import vector_space
from tasks.models.folders import describe, resolve


class TorchEncoder:
    """An Encoder over a SentenceTransformer. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, settings: Settings) -> None:
        folder = describe(resolve(settings.embedder, settings))
        self.fingerprint = vector_space(folder.name, folder.weights_sha256())
        self._model = SentenceTransformer(str(folder.path), local_files_only=True)
        self.dim = int(self._model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, dim], rows of unit L2 norm, in the order of `texts`."""
        return np.asarray(
            self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
        ).reshape(len(texts), self.dim)

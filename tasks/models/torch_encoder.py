"""Embed with sentence-transformers: any model that it loads, on CUDA where there is a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer

from schemas.settings import Settings
from tasks.models.folders import describe
from tasks.models.resolve import resolve


class TorchEncoder:
    """An Encoder over a SentenceTransformer. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, settings: Settings) -> None:
        folder = describe(resolve(settings.embedder, settings))
        self.name = folder.name
        self.sha256 = folder.weights_sha256()
        self.fingerprint = folder.fingerprint
        self.max_tokens = folder.max_tokens
        self._model = SentenceTransformer(
            str(folder.path),
            local_files_only=True,
            model_kwargs={"dtype": "float32"},  # as the fingerprint says
        )
        # both backends cut where the folder says, so that equal fingerprints mean equal vectors
        self._model.max_seq_length = folder.max_tokens
        self.dim = int(self._model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, dim], rows of unit L2 norm, in the order of `texts`."""
        return np.asarray(
            self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
        ).reshape(len(texts), self.dim)

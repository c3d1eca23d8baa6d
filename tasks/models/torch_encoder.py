"""Embed with sentence-transformers: any model that it loads, on CUDA in fp16 where there is a device, else in fp32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from schemas.settings import Settings
from tasks.models.batching import length_sorted
from tasks.models.folders import describe
from tasks.models.resolve import resolve

# Characters of a batch once padded: some 500 tokens keep a core's cache, some 60,000 fill a GPU.
BATCH_CHARACTERS = {"cpu": 2_000, "cuda": 250_000}


class TorchEncoder:
    """An Encoder over a SentenceTransformer. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, settings: Settings) -> None:
        folder = describe(resolve(settings.embedder, settings))
        self.name = folder.name
        self.sha256 = folder.weights_sha256()
        # fp16's vectors are fp32's to a cosine of 0.9999: one space
        self.fingerprint = folder.fingerprint("fp32")
        self.max_tokens = folder.max_tokens
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = SentenceTransformer(
            str(folder.path),
            device=self._device,
            local_files_only=True,
            model_kwargs={"dtype": "float16" if self._device == "cuda" else "float32"},
        )
        # both backends cut where the folder says, so that equal fingerprints mean equal vectors
        self._model.max_seq_length = folder.max_tokens
        self.dim = int(self._model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, dim], rows of unit L2 norm, in the order of `texts`."""
        rows = torch.empty((len(texts), self.dim), dtype=torch.float32, device=self._device)
        # nothing waits for the device until all is queued: while it computes, the next batch is tokenized
        for batch in length_sorted([len(text) for text in texts], BATCH_CHARACTERS[self._device]):
            rows[batch] = self._model.encode(
                [texts[i] for i in batch], batch_size=len(batch), convert_to_tensor=True, show_progress_bar=False
            ).float()
        return torch.nn.functional.normalize(rows).cpu().numpy()

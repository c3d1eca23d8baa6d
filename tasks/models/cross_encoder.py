"""Score (query, passage) pairs with a cross-encoder in ONNX Runtime: any model with a one-logit head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.settings import Settings
from tasks.models.batching import Session
from tasks.models.export import ensure_onnx
from tasks.models.folders import load_tokenizer_file


class CrossEncoder:
    """A cross-encoder by folder, cached or hub name. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, name: str, settings: Settings) -> None:
        folder, meta = ensure_onnx(name, "cross-encoder", "fp32", settings)
        self.name = meta.name
        self.max_tokens = min(settings.rerank_tokens, meta.max_tokens)  # of a pair, special tokens counted
        self._tokenizer = load_tokenizer_file(folder / "tokenizer.json")
        # cuts the passage; the query only where it is longer than half, when `only_second` would raise or leave no
        # passage. It is also what sentence-transformers does, so that scores agree for long queries too.
        self._tokenizer.enable_truncation(self.max_tokens, strategy="longest_first")
        self._session = Session(folder / "model.onnx", meta.inputs, settings.embed_threads)

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """Raw logits, float32[n]: higher is more relevant; in the order of `texts`."""
        pairs = self._tokenizer.encode_batch([(query, text) for text in texts])
        return np.asarray(self._session.run(pairs), dtype=np.float32).reshape(len(texts))

"""Score (query, passage) pairs with a cross-encoder in ONNX Runtime: any model with a one-logit head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from schemas.settings import Settings
from tasks.models.batching import Session
from tasks.models.export import ensure_onnx


class CrossEncoder:
    """A cross-encoder by folder, cached or hub name. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, name: str, settings: Settings) -> None:
        folder, meta = ensure_onnx(name, "cross-encoder", settings)
        self.name = meta.name
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        # the query is kept whole, the passage is cut
        self._tokenizer.enable_truncation(min(settings.rerank_tokens, meta.max_tokens), strategy="longest_first")
        self._session = Session(folder / "model.onnx", meta.inputs, settings.embed_threads)

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """Raw logits, float32[n]: higher is more relevant; in the order of `texts`."""
        pairs = self._tokenizer.encode_batch([(query, text) for text in texts])
        return np.asarray(self._session.run(pairs), dtype=np.float32).reshape(len(texts))

"""Score passages with a reranker that compares word by word (tasks.models.maxsim), in ONNX Runtime.

    query → float32[words, dim] ┐
    passage → int8[words, dim]  ┴→ of each word of the query the nearest of the passage → logit

What the body makes of a passage depends on no query: it is kept (tasks.models.kept), and the next query that finds the
passage compares its words in a fraction of a millisecond. It is scored from what is kept the first time too, so that a
score does not depend on who asked before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.settings import Settings
from tasks.models.kept import Kept
from tasks.models.onnx_reranker import OnnxReranker
from tasks.store.files import sha256

GREATEST = 127  # of int8


class LateInteraction(OnnxReranker):
    """A reranker of that kind by folder or cached name. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._tokenizer.enable_truncation(self.max_tokens)
        self._dim = int(self._model.config["hidden_size"])
        self._graph_sha256 = sha256(self._graph)
        self._kept = Kept(settings.cache / "passages", settings.rerank_cache_mb)

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]: higher is more relevant; in the order of `texts`."""
        (asked,) = self._words([query])
        vectors, weights = asked[:, :-1], asked[:, -1]
        return self._activated([nearest(vectors, passage) @ weights for passage in self.read(texts)])

    def read(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int8[words, dim] of each passage, the directions of its words' vectors; from now on they are kept."""
        keys = [self._key(text) for text in texts]
        found = {key: passage for key in keys if (passage := self._passage(key)) is not None}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        for key, words in zip(missing, self._words(list(missing.values())), strict=True):
            found[key] = directions(words[:, :-1])
            self._kept.put(key, found[key].tobytes())
        return [found[key] for key in keys]

    def kept_bytes(self, text: str) -> int | None:
        """What a passage that was read before takes in the cache; None of others."""
        return self._kept.size(self._key(text))

    def known(self, text: str) -> bool:
        """Whether a passage was read before, and is kept."""
        return self.kept_bytes(text) is not None

    def _words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """float32[words, dim + 1] of each text: vectors of unit norm, and last the weights as of a query's words."""
        rows = self._session.run(self._tokenizer.encode_batch(list(texts)))
        return [row[row[:, -1] >= 0] for row in rows]

    def _key(self, text: str) -> str:
        return Kept.key(self._graph_sha256, self.max_tokens, text)

    def _passage(self, key: str) -> np.ndarray | None:
        kept = self._kept.get(key)
        if not kept or len(kept) % self._dim:  # not there, or damaged
            return None
        passage = np.frombuffer(kept, dtype=np.int8).reshape(-1, self._dim)
        # what a crash left may have the length, and be zeros
        return passage if (np.abs(passage).max(axis=1) == GREATEST).all() else None


def directions(vectors: np.ndarray) -> np.ndarray:
    """float32[n, dim] → int8[n, dim], each scaled by its greatest: of a cosine's vectors the lengths do not count."""
    scaled: np.ndarray = np.rint(vectors * (GREATEST / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)
    return scaled


def nearest(vectors: np.ndarray, passage: np.ndarray) -> np.ndarray:
    """float32[n]: of float32[n, dim], of unit norm, each one's greatest cosine to int8[words, dim]; to no words -1."""
    words = passage.astype(np.float32)
    cosines = vectors @ words.T / np.linalg.norm(words, axis=1)
    return np.asarray(cosines.max(axis=1, initial=-1))

"""Score passages with a reranker that compares word by word (tasks.models.maxsim), in ONNX Runtime.

    query → float32[words, dim] ┐
    passage → int8[words, dim]  ┴→ of each word of the query the nearest of the passage → logit

What the body makes of a passage depends on no query: it is kept, and the next query that finds the passage compares its
words in a fraction of a millisecond. It is scored from what is kept the first time too, so that a score does not depend
on who asked before.

    <cache>/passages/<SHA-256 of graph, tokenizer, cut and text>    int8[words, dim], then their CRC-32
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from schemas.settings import Settings
from tasks.models.kept import Kept
from tasks.models.onnx_reranker import OnnxReranker
from tasks.store.files import sha256

# Passages that are read before the first is kept: a whole pool, whose vectors in float32 take some 7 MB.
AT_ONCE = 64
# Bytes of the checksum, behind what is kept of a passage.
CHECKSUM = 4


class LateInteraction(OnnxReranker):
    """A reranker of that kind by folder or cached name. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._tokenizer.enable_truncation(self.max_tokens)
        self._dim = int(self._model.config.get("word_dim") or self._model.config["hidden_size"])
        self._read_by = (sha256(self._graph), sha256(self._model.path / "tokenizer.json"), self.max_tokens)
        self._kept = Kept(settings.cache / "passages", settings.rerank_cache_mb)
        self._last: tuple[str, np.ndarray] | None = None  # a query, and its words

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]: higher is more relevant; in the order of `texts`."""
        last = self._last
        if last is None or last[0] != query:  # under a deadline it comes again with each batch of the pool
            last = self._last = (query, self._words([query])[0])
        vectors, weights = last[1][:, :-1], last[1][:, -1]
        return self._activated([nearest(vectors, passage) @ weights for passage in self.read(texts)])

    def read(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int8[words, dim] of each passage, the directions of its words' vectors; from now on they are kept."""
        found = {text: passage for text in texts if (passage := self.kept(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            for text, words in zip(some, self._words(some), strict=True):
                found[text] = directions(words[:, :-1])
                value = found[text].tobytes()
                self._kept.put(self._key(text), value + _checksum(value))
        return [found[text] for text in texts]

    def kept(self, text: str) -> np.ndarray | None:
        """int8[words, dim] of a passage that was read before; None where it was not, or is damaged."""
        value = self._kept.get(self._key(text))
        if value is None or _checksum(value[:-CHECKSUM]) != value[-CHECKSUM:]:
            return None
        return np.frombuffer(value[:-CHECKSUM], dtype=np.int8).reshape(-1, self._dim)

    def known(self, text: str) -> bool:
        """Whether a passage seems to be kept: sooner said than what it is."""
        return self._kept.has(self._key(text))

    def _words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """float32[words, dim + 1] of each text: vectors of unit norm, and last the weights as of a query's words."""
        rows = self._session.run(self._tokenizer.encode_batch(list(texts)))
        return [row[row[:, -1] >= 0] for row in rows]

    def _key(self, text: str) -> str:
        return Kept.key(*self._read_by, text)


def _checksum(value: bytes) -> bytes:
    return zlib.crc32(value).to_bytes(CHECKSUM)


def directions(vectors: np.ndarray) -> np.ndarray:
    """float32[n, dim] → int8[n, dim], each scaled by its greatest: of a cosine's vectors the lengths do not count."""
    scaled: np.ndarray = np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)
    return scaled


def nearest(vectors: np.ndarray, passage: np.ndarray) -> np.ndarray:
    """float32[n]: of float32[n, dim], of unit norm, each one's greatest cosine to int8[words, dim]; to no words -1."""
    words = passage.astype(np.float32)
    cosines = vectors @ words.T / np.linalg.norm(words, axis=1)
    return np.asarray(cosines.max(axis=1, initial=-1))

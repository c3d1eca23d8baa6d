"""What rerankers in ONNX Runtime have in common: a graph for this machine, and what a model's folder says of it.

The graph is the one that its publisher made for this processor (tasks.models.published), else exported once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.models.batching import BATCH_TOKENS, Session
from tasks.models.export import Kind, check_exportable, ensure_onnx
from tasks.models.folders import MODEL_TYPE, ModelFolder, Precision, describe
from tasks.models.hardware import has_cuda_runtime, has_int8
from tasks.models.published import graph_names, published_graph
from tasks.models.resolve import resolve

# tokens of a batch once padded, which a GPU needs to be busy
CUDA_BATCH_TOKENS = 60_000


class OnnxReranker:
    """A model by folder, cached or hub name. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, name: str, settings: Settings) -> None:
        model = reranker_folder(name, settings)
        kind = reranker_kind(model)
        check_exportable(model, kind)
        precision = decided_precision(model, settings)
        graph = published_graph(model.path, precision)
        if graph is None:
            graph = ensure_onnx(name, kind, precision, settings)[0] / "model.onnx"
        self.name = model.name
        self.max_tokens = min(settings.rerank_tokens, model.max_tokens)  # special tokens counted
        # models of one name differ in their graphs' size
        self.fingerprint = (
            f"{self.name}-{precision}, {graph.stat().st_size} bytes, {self.max_tokens} tokens, "
            f"{settings.embed_threads} threads"
        )
        self.blend = model.blend
        self._model, self._graph = model, graph
        self._tokenizer = model.tokenizer()
        cuda = precision == "fp32" and has_cuda_runtime()
        # an int8 graph scales a whole batch's activations at once: alone, a score depends on nothing else
        budget = CUDA_BATCH_TOKENS if cuda else BATCH_TOKENS if precision == "fp32" else 0
        pad_id = int(model.config.get("pad_token_id") or 0)
        self._session = Session(graph, settings.embed_threads, budget, pad_id, cuda=cuda)

    def _activated(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """float32[n]: the logits, or their sigmoid, as the model's configuration says."""
        found = np.asarray(logits, dtype=np.float32).reshape(len(logits))
        if self._model.activation != "Sigmoid":
            return found
        # in float64, where exp of what an untrained head gives does not overflow
        return (1 / (1 + np.exp(-found.astype(np.float64)))).astype(np.float32)


def reranker_folder(name: str, settings: Settings) -> ModelFolder:
    """The model; from the hub with the graph for this machine, where its publisher has one.

    Raises ModelNotFound, ModelMismatch.
    """
    return describe(resolve(name, settings, also=graph_names(wanted_precision(settings))[:1]))


def reranker_kind(model: ModelFolder) -> Kind:
    """How a reranker reads: `cross-encoder` query and passage as one, `late-interaction` each alone."""
    return "late-interaction" if model.config.get("model_type") == MODEL_TYPE else "cross-encoder"


def wanted_precision(settings: Settings) -> Precision:
    """That of the settings; for `auto` int8 unless a GPU computes: `decided_precision` looks closer."""
    if settings.rerank_precision == "auto":
        return "fp32" if has_cuda_runtime() else "int8"
    return settings.rerank_precision


def decided_precision(model: ModelFolder, settings: Settings) -> Precision:
    """As wanted; for `auto` int8 only with instructions for it, or with the publisher's graph for this processor.

    Raises ModelMismatch where fp32 is wanted of a model that comes as an int8 graph and nothing else.
    """
    wanted = wanted_precision(settings)
    if model.weights.suffix == ".onnx":
        if settings.rerank_precision == "fp32":
            raise ModelMismatch(f"{model.name} comes in int8 only; leave rerank_precision at auto")
        return "int8"
    if settings.rerank_precision == "auto" and wanted == "int8":
        return "int8" if has_int8() or published_graph(model.path, "int8") else "fp32"
    return wanted

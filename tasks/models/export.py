"""Export a BERT-like model to ONNX, once, into the cache.

    <cache>/models/<model's fingerprint>-<kind>-<exporter version>/model.onnx, config.json, tokenizer.json, meta.json

The export runs in a process of its own (tasks.models.torch_export), so that torch, 489 MB of it, never enters the
caller. It is written aside and renamed whole: of two processes that export at once, the second's work is dropped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.models.folders import ModelFolder, Precision, describe
from tasks.models.resolve import resolve

Kind = Literal["encoder", "cross-encoder", "late-interaction"]
EXPORTER_VERSION = "3"


@dataclass(frozen=True)
class Exported:
    """What meta.json says of an exported model."""

    name: str
    fingerprint: str  # ModelFolder.fingerprint
    precision: Precision
    kind: Kind
    weights_sha256: str  # hex
    pooling: str  # mean or cls; of no meaning for a reranker
    dim: int  # of the vectors; 1 for a cross-encoder's logit
    max_tokens: int  # special tokens counted


def ensure_onnx(name: str, kind: Kind, precision: Precision, settings: Settings) -> tuple[Path, Exported]:
    """The folder of model `name` as ONNX, exported now if it is not in the cache yet.

    Raises ModelNotFound, ModelMismatch.
    """
    model = describe(resolve(name, settings))
    check_exportable(model, kind)
    folder = onnx_folder(model, kind, precision, settings)
    if not (folder / "meta.json").is_file():
        _export_in_subprocess(model, kind, precision, folder)
    return folder, Exported(**json.loads((folder / "meta.json").read_text(encoding="utf-8")))


def onnx_folder(model: ModelFolder, kind: Kind, precision: Precision, settings: Settings) -> Path:
    """Where the exported model lies, or will."""
    return settings.cache / "models" / f"{model.fingerprint(precision)}-{kind}-{EXPORTER_VERSION}"


def check_exportable(model: ModelFolder, kind: Kind) -> None:
    """Raise ModelMismatch where the exported graph would not compute what the model's own library does."""
    if kind == "encoder":
        _check_encoder(model)
    else:
        _check_reranker(model)


def _check_encoder(model: ModelFolder) -> None:
    unknown = [module for module in model.modules if module not in {"Transformer", "Pooling", "Normalize"}]
    if model.pooling not in {"mean", "cls"}:
        unknown.append(f"pooling by {model.pooling}")
    if model.default_prompt:
        unknown.append(f"the default prompt {model.default_prompt!r}")
    if unknown:
        raise ModelMismatch(
            f"{model.path} has {', '.join(unknown)}, which the ONNX backend does not know; "
            "use --set embed_backend=sentence-transformers"
        )


def _check_reranker(model: ModelFolder) -> None:
    architecture = (model.config.get("architectures") or [""])[0]
    # a configuration without labels means transformers' default of two
    one_logit = len(model.config.get("id2label") or "no") == 1 and "SequenceClassification" in architecture
    unknown = [module for module in model.modules if module != "Transformer"]
    if model.default_prompt:
        unknown.append(f"the default prompt {model.default_prompt!r}")
    if not one_logit:
        fault = f"is no cross-encoder: its head, of {architecture or 'no architecture'}, is not exactly one logit"
    elif unknown:
        fault = f"has {', '.join(unknown)}, which the ONNX graph would not have"
    elif model.activation not in {"Identity", "Sigmoid"}:
        fault = f"puts its logit through {model.activation}; only Identity and Sigmoid are known"
    else:
        return
    raise ModelMismatch(f"{model.path} {fault}; name a reranker such as cross-encoder/ms-marco-MiniLM-L6-v2")


def _export_in_subprocess(model: ModelFolder, kind: Kind, precision: Precision, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as aside:
        staged = Path(aside, "model")
        done = subprocess.run(
            [sys.executable, "-m", "tasks.models.torch_export", str(model.path), kind, precision, str(staged)],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            # a process that the system killed for its memory ends below zero and says nothing
            reason = (done.stderr.strip().splitlines() or [f"the exporter ended with status {done.returncode}"])[-1]
            raise ModelMismatch(f"{model.path} cannot be exported to ONNX as {kind}: {reason}")
        try:
            staged.rename(folder)
        except OSError:
            if not (folder / "meta.json").is_file():  # else another process was first, with the same result
                raise

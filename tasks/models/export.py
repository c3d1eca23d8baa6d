"""Export a BERT-like model to ONNX, once, into the cache.

    <cache>/models/<name>-<weights SHA-256, 8 digits>-<kind>-<exporter version>/model.onnx, meta.json, tokenizer.json

The export runs in a process of its own (tasks.models.torch_export), so that torch, 489 MB of it, never enters the caller.
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
from tasks.models.folders import ModelFolder, describe, resolve

Kind = Literal["encoder", "cross-encoder"]
EXPORTER_VERSION = "1"


@dataclass(frozen=True)
class Exported:
    """What meta.json says of an exported model."""

    name: str
    weights_sha256: str
    dim: int  # of the vectors; 1 for a cross-encoder's logit
    max_tokens: int  # special tokens counted
    inputs: tuple[str, ...]  # names of the graph's int64[batch, tokens] inputs


def ensure_onnx(name: str, kind: Kind, settings: Settings) -> tuple[Path, Exported]:
    """The folder of model `name` as ONNX, exported now if it is not in the cache yet.

    Raises ModelNotFound, ModelMismatch.
    """
    model = describe(resolve(name, settings))
    folder = settings.cache / "models" / f"{model.name}-{model.weights_sha256()[:8]}-{kind}-{EXPORTER_VERSION}"
    if not (folder / "meta.json").is_file():
        _export_in_subprocess(model, kind, folder)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return folder, Exported(**{**meta, "inputs": tuple(meta["inputs"])})


def _export_in_subprocess(model: ModelFolder, kind: Kind, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as aside:
        done = subprocess.run(
            [sys.executable, "-m", "tasks.models.torch_export", str(model.path), kind, str(Path(aside, "model"))],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ModelMismatch(f"{model.path} cannot be exported to ONNX as a {kind}: {reason}")
        staged = Path(aside, "model")
        try:
            staged.rename(folder)
        except OSError:
            if not (folder / "meta.json").is_file():  # else another process was first, with the same result
                raise

"""Choose among the ONNX graphs that a cross-encoder's publisher put beside its weights: no export, no torch.

sentence-transformers publishes quantized ones under the name of the processor that each is made for, and
`model_O4.onnx` in fp16 for CUDA. What others quantized, for a browser mostly, has other names and is left alone.
`model_qint8.onnx`, for any processor, is what Headrace ships (tasks.training.bundle).
"""

from __future__ import annotations

import platform
from pathlib import Path

from tasks.models.folders import Precision
from tasks.models.hardware import cpu_flags, has_cuda_runtime

PORTABLE = "onnx/model_qint8.onnx"

# what an x86 processor must have → the graph for it, fastest first
_INT8_X86 = {
    "avx512_vnni": "model_qint8_avx512_vnni.onnx",
    "avx512f": "model_qint8_avx512.onnx",
    "avx2": "model_quint8_avx2.onnx",
}


def graph_names(precision: Precision) -> list[str]:
    """Paths within a model's folder of the graphs that this machine can use, best first."""
    if precision == "int8":
        arm = platform.machine() in {"arm64", "aarch64"}
        names = [name for flag, name in _INT8_X86.items() if flag in cpu_flags()]
        own = ["model_qint8_arm64.onnx"] if arm else names
        return [*(f"onnx/{name}" for name in own), PORTABLE]
    return ["onnx/model_O4.onnx", "onnx/model.onnx"] if has_cuda_runtime() else ["onnx/model.onnx"]


def published_graph(folder: Path, precision: Precision) -> Path | None:
    """The best of them that is there."""
    return next((folder / name for name in graph_names(precision) if (folder / name).is_file()), None)

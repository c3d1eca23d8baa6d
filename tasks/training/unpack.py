"""Weights to train on, out of the int8 graph of a model that is shipped without them: the inverse of `bundle`.

A weight comes back to within half a step of its int8 scale, far less than training moves it. Its name is that of the
bias which the graph adds to its product; the exporter keeps the names of biases and of embedding tables.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from transformers import AutoConfig, AutoModelForSequenceClassification

import tasks.models.maxsim  # noqa: F401  # makes its model known
from tasks.models.folders import copy_tokenizer
from tasks.models.published import PORTABLE


def unpack(folder: Path, into: Path) -> None:
    """Write the model of `folder`, which has the graph PORTABLE, into the folder `into`, with weights in fp32."""
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights(folder / PORTABLE).items()})
    model.save_pretrained(into)
    copy_tokenizer(folder, into)
    shutil.copy(folder / "config_sentence_transformers.json", into)


def weights(graph: Path) -> dict[str, np.ndarray]:
    """Name → float32[…] of every parameter."""
    nodes = onnx.load(graph).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in nodes.initializer}
    reader = {name: node for node in nodes.node for name in node.input}

    def exact(quantized: str) -> np.ndarray:
        name = quantized.removesuffix("_quantized")
        whole = stored[quantized].astype(np.float32) - stored[f"{name}_zero_point"].astype(np.float32)
        scaled: np.ndarray = whole * stored[f"{name}_scale"]
        return scaled

    found = {name: value for name, value in stored.items() if re.search(r"\.(weight|bias|sharpness)$", name)}
    for node in nodes.node:
        if node.op_type == "Gather" and node.input[0].endswith(".weight_quantized"):
            found[node.input[0].removesuffix("_quantized")] = exact(node.input[0])
        if node.op_type == "MatMulInteger":
            total = node
            while total.op_type != "Add":
                total = reader[total.output[0]]
            bias = next(name for name in total.input if name in stored)
            found[f"{bias.removesuffix('bias')}weight"] = exact(node.input[1]).T
    return {_parameter(name): np.array(value) for name, value in found.items()}


def _parameter(name: str) -> str:
    """The name in the model, without the modules that the export wraps around it and around its last layer."""
    return re.sub(r"(\.layer\.\d+)\.layer\.", r"\1.", name.removeprefix("body."))

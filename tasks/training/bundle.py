"""Make a trained cross-encoder small enough to ship.

    python -m tasks.training.bundle FOLDER FUSION NEIGHBOURS CARD.md INTO

In: the model's folder in the hub's layout, the two weights of its blend (tasks.blend), and its card. Out: a folder with
an int8 graph for any processor, 23 MB for MiniLM-L6, and with what explains it; weights to train on are not in it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tasks.blend import Blend
from tasks.models.folders import FUSION_WEIGHT, NEIGHBOUR_WEIGHT, copy_tokenizer, describe
from tasks.models.onnx_reranker import reranker_kind
from tasks.models.published import PORTABLE
from tasks.models.torch_export import quantize, write_graph


def bundle(folder: Path, blend: Blend, card: Path, into: Path) -> None:
    """Write the folder `into`, in place of what is there."""
    model = describe(folder)
    shutil.rmtree(into, ignore_errors=True)
    graph = into / PORTABLE
    graph.parent.mkdir(parents=True)
    write_graph(model, reranker_kind(model), "int8", graph)
    quantize(graph, portable=True)
    copy_tokenizer(folder, into)
    shutil.copy(folder / "config_sentence_transformers.json", into)
    weights = {FUSION_WEIGHT: blend.fusion, NEIGHBOUR_WEIGHT: blend.neighbours}
    (into / "config.json").write_text(json.dumps(model.config | weights, indent=2) + "\n")
    shutil.copy(card, into / "README.md")


if __name__ == "__main__":
    folder, fusion, neighbours, card, into = sys.argv[1:]
    bundle(Path(folder), Blend(float(fusion), float(neighbours)), Path(card), Path(into))

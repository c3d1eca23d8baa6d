"""Make a trained cross-encoder small enough to ship: `python -m tasks.training.bundle FOLDER WEIGHT CARD.md INTO`.

In: the model's folder in the hub's layout, the weight of fusion's score beside its logit, and its card. Out: a folder
with an int8 graph for any processor, 23 MB for MiniLM-L6, and with what explains it; weights to train on are not in it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tasks.models.folders import FUSION_WEIGHT, copy_tokenizer, describe
from tasks.models.published import PORTABLE
from tasks.models.torch_export import quantize, write_graph


def bundle(folder: Path, weight: float, card: Path, into: Path) -> None:
    """Write the folder `into`, in place of what is there."""
    model = describe(folder)
    shutil.rmtree(into, ignore_errors=True)
    graph = into / PORTABLE
    graph.parent.mkdir(parents=True)
    write_graph(model, "cross-encoder", "int8", graph)
    quantize(graph, portable=True)
    copy_tokenizer(folder, into)
    shutil.copy(folder / "config_sentence_transformers.json", into)
    (into / "config.json").write_text(json.dumps(model.config | {FUSION_WEIGHT: weight}, indent=2) + "\n")
    shutil.copy(card, into / "README.md")


if __name__ == "__main__":
    bundle(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))

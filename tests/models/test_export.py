"""The export: once, whole or absent, and refused where the graph would not be the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.models.batching import Session
from tasks.models.export import check_exportable, ensure_onnx
from tasks.models.folders import describe

MakeSettings = Callable[..., Settings]


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder that a test may change."""
    return shutil.copytree(tiny_encoder, tmp_path / "model")


def put(folder: Path, name: str, content: object) -> None:
    """Write one of a model's JSON files."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def test_two_exports_at_once_leave_one_whole_model(
    make_settings: MakeSettings, tiny_encoder: Path, tmp_path: Path
) -> None:
    settings = make_settings(cache=tmp_path / "cache")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: ensure_onnx(str(tiny_encoder), "encoder", "int8", settings), range(2))
    assert first == second
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir()] == [first[0].name]
    assert {path.name for path in first[0].iterdir()} == {"model.onnx", "config.json", "tokenizer.json", "meta.json"}


def test_failed_export_says_why_and_leaves_nothing(make_settings: MakeSettings, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelMismatch, match=r"cannot be exported to ONNX as encoder: .*[Hh]eader"):
        ensure_onnx(str(folder), "encoder", "int8", make_settings(cache=tmp_path / "cache"))
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_damaged_export_says_what_to_delete(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"cut short")
    with pytest.raises(ModelMismatch, match=f"delete {tmp_path} to export it again"):
        Session(tmp_path / "model.onnx", threads=1)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        pytest.param({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls", id="2.x cls"),
        pytest.param(
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "max+mean", id="2.x two modes"
        ),
        pytest.param({"pooling_mode": "cls"}, "cls", id="6.x cls"),
        pytest.param({"pooling_mode": ["mean", "max"]}, "mean+max", id="6.x two modes"),
        pytest.param({}, "mean", id="not said"),
    ],
)
def test_pooling_is_read_from_every_layout(folder: Path, config: dict[str, object], pooling: str) -> None:
    put(folder, "1_Pooling/config.json", config)
    assert describe(folder).pooling == pooling


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        pytest.param("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling by max", id="pooling"),
        pytest.param("modules.json", [{"type": "sentence_transformers.models.Dense"}], "has Dense", id="module"),
        pytest.param(
            "config_sentence_transformers.json",
            {"prompts": {"passage": "passage: "}, "default_prompt_name": "passage"},
            "the default prompt 'passage: '",
            id="prompt",
        ),
    ],
)
def test_model_that_the_graph_cannot_be_is_refused(folder: Path, file: str, content: object, message: str) -> None:
    check_exportable(describe(folder), "encoder")
    put(folder, file, content)
    with pytest.raises(ModelMismatch, match=f"{message}.*embed_backend=sentence-transformers"):
        check_exportable(describe(folder), "encoder")


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        pytest.param({"max_position_embeddings": 512}, 512, id="BERT"),
        pytest.param(
            {"max_position_embeddings": 514, "model_type": "xlm-roberta", "pad_token_id": 1}, 512, id="RoBERTa"
        ),
        pytest.param({}, 512, id="not said"),
    ],
)
def test_longest_input_fits_the_positions(folder: Path, config: dict[str, object], longest: int) -> None:
    put(folder, "config.json", config)
    (folder / "tokenizer_config.json").unlink()
    assert describe(folder).max_tokens == longest

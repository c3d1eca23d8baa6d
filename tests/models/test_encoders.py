"""The ONNX encoder against sentence-transformers, which is the oracle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks import models
from tasks.models import load_encoder, load_tokenizer
from tests.conftest import CORPUS

MakeSettings = Callable[..., Settings]

TEXTS = [
    "",
    " \n\t",
    "a",
    "How do we rotate TLS certificates automatically?",
    "Größe, naïve café 日本語 Ελληνικά 🙂",
    "word " * 600,
    "0.0.0.0/0 E1234 CREATE_FAILED",
    "line one\nline two",
    "x" * 5000,
    "[CLS] [SEP] [PAD]",
    *(f"sentence number {i} " * i for i in range(1, 12)),
]


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float32[n] of two float32[n, dim] with rows of unit norm."""
    return (one * other).sum(1)


def both(settings: MakeSettings, folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """TEXTS embedded by either backend, which agree on what the vectors are called."""
    onnx = load_encoder(settings(embedder=str(folder), embed_precision="fp32"))
    torch = load_encoder(settings(embedder=str(folder), embed_backend="sentence-transformers"))
    names = ("name", "fingerprint", "dim", "max_tokens", "sha256")
    assert [getattr(onnx, name) for name in names] == [getattr(torch, name) for name in names]
    return onnx.encode(TEXTS), torch.encode(TEXTS)


def test_onnx_vectors_equal_sentence_transformers(make_settings: MakeSettings) -> None:
    ours, theirs = both(make_settings, "all-MiniLM-L6-v2")
    assert (ours.dtype, ours.shape) == (np.float32, (len(TEXTS), 384))
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert cosines(ours, theirs).min() > 0.9999


def test_int8_vectors_are_near_those_of_fp32(make_settings: MakeSettings) -> None:
    passages = [text for path in CORPUS.glob("*.md") for text in path.read_text().split("\n\n") if len(text) > 60]
    fp32, int8 = (load_encoder(make_settings(embed_precision=precision)) for precision in ("fp32", "int8"))
    assert int8.fingerprint == "all-MiniLM-L6-v2-53aa5117-mean256-int8"
    near = cosines(fp32.encode(passages), int8.encode(passages))
    assert near.mean() > 0.985
    assert near.min() > 0.97


@pytest.mark.parametrize(
    ("has", "asked", "space", "backend", "precision"),
    [
        pytest.param("", {}, None, "onnx", "fp32", id="plain"),
        pytest.param("int8", {}, None, "onnx", "int8", id="processor with int8"),
        pytest.param("int8", {}, "m-fp32", "onnx", "fp32", id="a store of fp32 vectors stays so"),
        pytest.param("", {}, "m-int8", "onnx", "int8", id="a store of int8 vectors can be used anywhere"),
        pytest.param("int8 cuda", {}, None, "sentence-transformers", "fp32", id="GPU"),
        pytest.param("int8 cuda", {}, "m-int8", "onnx", "int8", id="GPU does not change a store"),
        pytest.param("cuda", {"embed_backend": "onnx"}, None, "onnx", "fp32", id="asked for onnx"),
        pytest.param(
            "int8", {"embed_backend": "sentence-transformers"}, None, "sentence-transformers", "fp32", id="st"
        ),
        pytest.param("int8", {"embed_precision": "fp32"}, "m-int8", "onnx", "fp32", id="asked for fp32"),
    ],
)
def test_backend_and_precision_suit_the_store_and_the_machine(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    has: str,
    asked: dict[str, str],
    space: str | None,
    backend: str,
    precision: str,
) -> None:
    for name in ("int8", "cuda"):
        monkeypatch.setattr(models, f"has_{name}", lambda name=name: name in has.split())
    settings = models.decided(make_settings(**asked), space)
    assert (settings.embed_backend, settings.embed_precision) == (backend, precision)
    assert models.decided(settings, space) == settings


def test_sentence_transformers_refuses_int8(make_settings: MakeSettings) -> None:
    with pytest.raises(ModelMismatch, match="int8"):
        load_encoder(make_settings(embed_backend="sentence-transformers", embed_precision="int8"))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_vectors_do_not_depend_on_order_or_company(make_settings: MakeSettings, precision: str) -> None:
    encoder = load_encoder(make_settings(embed_precision=precision))
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in reversed(TEXTS)])[::-1]
    assert np.abs(together - alone).max() < 1e-5
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_vectors_do_not_depend_on_threads(make_settings: MakeSettings) -> None:
    one, four = (load_encoder(make_settings(embed_threads=threads)).encode(TEXTS) for threads in (1, 4))
    assert np.abs(one - four).max() < 1e-5


def test_canonical_vector_of_the_bundled_model(make_settings: MakeSettings) -> None:
    encoder = load_encoder(make_settings(embed_precision="fp32"))
    assert encoder.fingerprint == "all-MiniLM-L6-v2-53aa5117-mean256-fp32"
    vector = encoder.encode(["hello world"])[0]
    assert vector[:4] == pytest.approx([-0.03447725, 0.03102317, 0.00673497, 0.02610898], abs=1e-5)


def test_any_encoder_folder_works(make_settings: MakeSettings, tiny_encoder: Path) -> None:
    ours, theirs = both(make_settings, tiny_encoder)
    assert ours.shape == (len(TEXTS), 32)
    assert cosines(ours, theirs).min() > 0.9999


def test_folder_saved_by_sentence_transformers_6_keeps_its_pooling_and_length(
    make_settings: MakeSettings, tiny_encoder: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    body = Transformer(str(tiny_encoder), max_seq_length=40)
    SentenceTransformer(modules=[body, Pooling(32, pooling_mode="cls")]).save_pretrained(str(tmp_path / "saved"))
    encoder = load_encoder(make_settings(embedder=str(tmp_path / "saved"), embed_precision="fp32"))
    assert encoder.fingerprint.endswith("-cls40-fp32")
    ours, theirs = both(make_settings, tmp_path / "saved")
    assert cosines(ours, theirs).min() > 0.9999


def test_same_weights_with_another_length_are_another_vector_space(
    make_settings: MakeSettings, tiny_encoder: Path, tmp_path: Path
) -> None:
    shorter = shutil.copytree(tiny_encoder, tmp_path / "tiny-encoder")
    (shorter / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    long, short = (load_encoder(make_settings(embedder=str(folder))) for folder in (tiny_encoder, shorter))
    assert (long.max_tokens, short.max_tokens) == (512, 16)
    assert long.fingerprint != short.fingerprint
    assert cosines(long.encode(["word " * 600]), short.encode(["word " * 600]))[0] < 0.9999


def test_counting_tokenizer_neither_pads_nor_cuts(make_settings: MakeSettings) -> None:
    tokenizer = load_tokenizer(make_settings())
    assert [len(e) for e in tokenizer.encode_batch(["one", "one " * 700], add_special_tokens=False)] == [1, 700]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import tasks.models, tasks.models.cross_encoder, tasks.models.onnx_encoder", id="models"),
        pytest.param("import tasks.search, tasks.status, flows.printing", id="query path"),
    ],
)
def test_importing_brings_in_neither_torch_nor_prefect(code: str) -> None:
    slow = "{'torch', 'prefect', 'transformers', 'sentence_transformers', 'unstructured'}"
    command = [sys.executable, "-c", f"import sys; {code}; print({slow} & set(sys.modules))"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "set()"


def test_encoding_and_scoring_bring_in_no_torch(make_settings: MakeSettings, tiny_cross_encoder: Path) -> None:
    code = (
        "import sys; from schemas.settings import Settings; from tasks.models import load_encoder;"
        "from tasks.models.cross_encoder import CrossEncoder;"
        f"s = Settings(cache={str(make_settings().cache)!r}); load_encoder(s).encode(['a']);"
        f"CrossEncoder({str(tiny_cross_encoder)!r}, s).score('a', ['b']);"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "set()"

"""Write a BERT-like model as ONNX: `python -m tasks.models.torch_export FOLDER KIND PRECISION TARGET`.

Kinds: `encoder` gives unit-norm embedding float32[batch, dim], pooling and normalisation inside the graph;
`cross-encoder` gives logit float32[batch]; `late-interaction` gives float32[batch, words, dim + 1], see Words. The
legacy exporter with eager attention makes the faster graph on CPU. int8 quantizes the weights of matrix products per
output channel, and their inputs at run time.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic

from schemas.errors import HeadraceError
from tasks.models.export import Exported, Kind
from tasks.models.folders import ModelFolder, Precision, describe
from tasks.models.maxsim import MaxSimForSequenceClassification

# name and axis of any length, beside the batch, of what a graph gives
OUTPUTS: dict[Kind, tuple[str, dict[int, str]]] = {
    "encoder": ("embedding", {}),
    "cross-encoder": ("logit", {}),
    "late-interaction": ("words", {1: "words"}),
}


class Embedding(torch.nn.Module):
    """Token vectors → mean or first token → unit norm."""

    def __init__(self, body: torch.nn.Module, names: list[str], pooling: str) -> None:
        super().__init__()
        self.body, self.names, self.pooling = body, names, pooling

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """int64[batch, tokens] for each of `names` → float32[batch, dim]."""
        given = dict(zip(self.names, inputs, strict=True))
        tokens = self.body(**given).last_hidden_state
        if self.pooling == "cls":
            pooled = tokens[:, 0]
        else:
            mask = given["attention_mask"].unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, p=2.0, dim=1)


def unmasked_attention(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention for one text a call, as int8 graphs run, where nothing is padded: the mask's sums are saved.

    float32[batch, heads, tokens, size] each → float32[batch, tokens, heads, size] and the weights.
    """
    weights = torch.softmax(query @ key.transpose(2, 3) * scaling, dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class FirstToken(torch.nn.Module):
    """A last layer of BERT or RoBERTa that computes the first token alone, all that a classification head reads.

    The other tokens give their keys and values, and pass no feed-forward: a seventh of a six-layer model's work less.
    """

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None, *_: object, **__: object) -> torch.Tensor:
        """float32[batch, tokens, dim], and float32[batch, 1, 1 or tokens, tokens] to add → float32[batch, 1, dim]."""
        layer: Any = self.layer
        attention = layer.attention.self
        first = tokens[:, :1]

        def heads(linear: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
            read: torch.Tensor = linear(rows)
            return read.view(*rows.shape[:2], -1, attention.attention_head_size).transpose(1, 2)

        products = heads(attention.query, first) @ heads(attention.key, tokens).transpose(2, 3) * attention.scaling
        weights = torch.softmax(products if mask is None else products + mask[:, :, :1], dim=-1)
        read = (weights @ heads(attention.value, tokens)).transpose(1, 2).flatten(2)
        attended = layer.attention.output(read, first)
        reduced: torch.Tensor = layer.output(layer.intermediate(attended), attended)
        return reduced


class Logit(torch.nn.Module):
    """The relevance logit of a (query, passage) pair."""

    def __init__(self, body: transformers.PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.body, self.names = body, names
        if body.config.model_type in {"bert", "roberta", "xlm-roberta"}:
            layers: Any = getattr(body, body.base_model_prefix).encoder.layer
            layers[-1] = FirstToken(layers[-1])

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """int64[batch, tokens] for each of `names` → float32[batch]."""
        logits: torch.Tensor = self.body(**dict(zip(self.names, inputs, strict=True))).logits
        return logits.squeeze(-1)


class Words(torch.nn.Module):
    """The tokens of a text as a reranker that compares word by word reads them."""

    def __init__(self, body: MaxSimForSequenceClassification) -> None:
        super().__init__()
        self.body = body

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """int64[batch, tokens] each → float32[batch, tokens of all windows, dim + 1]: vectors, and last the weights."""
        words = attention_mask.sum(1, keepdim=True) - 2
        vectors, weights = self.body.read(input_ids, torch.ones_like(words), words)
        return torch.cat([vectors, weights[:, :, None]], 2)


def export(path: Path, kind: Kind, precision: Precision, target: Path) -> None:
    """Write model.onnx, config.json, tokenizer.json and, last, meta.json into the new folder `target`."""
    model = describe(path)
    target.mkdir()
    dim = write_graph(model, kind, precision, target / "model.onnx")
    if precision == "int8":
        quantize(target / "model.onnx")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(path / name, target)
    meta = Exported(
        name=model.name,
        fingerprint=model.fingerprint(precision),
        precision=precision,
        kind=kind,
        weights_sha256=model.weights_sha256(),
        pooling=model.pooling,
        dim=1 if kind == "cross-encoder" else dim,
        max_tokens=model.max_tokens,
    )
    (target / "meta.json").write_text(json.dumps(asdict(meta), indent=1), encoding="utf-8")


def write_graph(model: ModelFolder, kind: Kind, precision: Precision, target: Path) -> int:
    """Write the graph in fp32, in the form that `precision` runs; the model's hidden size."""
    auto = transformers.AutoModel if kind == "encoder" else transformers.AutoModelForSequenceClassification
    transformers.AttentionInterface.register("unmasked", unmasked_attention)
    # DeBERTa's own attention has nothing to leave out
    alone = kind != "encoder" and precision == "int8" and model.config.get("model_type") != "deberta-v2"
    attention = "unmasked" if alone else "eager"
    body = auto.from_pretrained(
        model.path, attn_implementation=attention, dtype=torch.float32, local_files_only=True
    ).eval()
    names = ["input_ids", "attention_mask"]
    takes_types = "token_type_ids" in inspect.signature(body.forward).parameters
    if takes_types and model.config.get("type_vocab_size", 0) > 1 and kind != "late-interaction":
        names.append("token_type_ids")
    if kind == "encoder":
        head: torch.nn.Module = Embedding(body, names, model.pooling)
    else:
        head = Words(body) if kind == "late-interaction" else Logit(body, names)
    output, longer = OUTPUTS[kind]
    torch.onnx.export(
        head,
        # a query of four tokens and a passage of four, as token types tell them apart
        tuple((torch.arange(8) >= 4 * (name == "token_type_ids")).long().repeat(2, 1) for name in names),
        str(target),
        dynamo=False,
        opset_version=17,
        input_names=names,
        output_names=[output],
        dynamic_axes={**{name: {0: "batch", 1: "tokens"} for name in names}, output: {0: "batch"} | longer},
    )
    return int(body.config.hidden_size)


def quantize(model: Path, *, portable: bool = False) -> None:
    """Make the weights of a graph int8, in place.

    `portable`, for a model that is shipped: the embedding table too, half of its size, and all in seven bits, whose
    sums do not overflow on processors without instructions for int8 (ONNX Runtime, "Quantize ONNX models").
    """
    exact = model.with_suffix(".fp32.onnx")
    model.rename(exact)
    # products of two activations stay exact: there is no weight whose scale could be known before
    quantize_dynamic(
        exact,
        model,
        op_types_to_quantize=["MatMul", "Gather"] if portable else ["MatMul"],
        per_channel=True,
        reduce_range=portable,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    exact.unlink()


if __name__ == "__main__":
    folder, what, how, into = sys.argv[1:]
    try:
        export(
            Path(folder),
            next(kind for kind in OUTPUTS if kind == what),
            "int8" if how == "int8" else "fp32",
            Path(into),
        )
    except HeadraceError as error:
        sys.exit(str(error))

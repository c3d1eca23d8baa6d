"""Train a cross-encoder on lists, with sentence-transformers' trainer: `python -m tasks.training.train RECIPE.json`.

A process of its own, so that torch never enters the caller and all that a killed run leaves is its checkpoints, from
which the next run of the same recipe goes on.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.models.folders import describe
from tasks.models.hardware import has_bf16
from tasks.models.onnx_reranker import reranker_kind

# An epoch or two learn nothing by heart, and making the masks is a third of the time on a CPU.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

# Of tasks.models.maxsim: single numbers, for which a matrix's steps would be too small.
FASTER = {r"\.(rarity\.weight|sharpness)$": 50.0}


@dataclass(frozen=True)
class Recipe:
    """What is trained on what."""

    base: str  # folder of an encoder or a cross-encoder in the hub's layout, or of one that `bundle` made
    lists: tuple[str, ...]  # Parquet files, LISTS
    into: str  # folder of the model; checkpoints lie below it while it is trained
    fusion_weight: float
    tokens: int  # of a (query, passage) pair, special tokens counted
    epochs: float
    learning_rate: float
    lists_a_step: int
    # Of what training changed so much is kept. Half of it orders unlike texts better than all: Wortsman et al. 2022,
    # "Robust fine-tuning of zero-shot models".
    kept: float = 1.0


def train(recipe: Recipe, report: Callable[[int, int], None]) -> None:
    """Write the model that comes of `recipe` to its folder `into`."""
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from transformers import PrinterCallback
    from transformers.trainer_utils import get_last_checkpoint

    from tasks.training.loss import ListwiseLoss
    from tasks.training.start import start
    from tasks.training.unpack import unpack

    cuda = torch.cuda.is_available()
    into, base = Path(recipe.into), Path(recipe.base)
    rows = [row for file in recipe.lists for row in pq.read_table(file).to_pylist()]
    torch.manual_seed(7)  # a head's first weights
    with tempfile.TemporaryDirectory() as aside:
        given = describe(base)
        if given.weights.suffix == ".onnx":
            unpack(base, base := Path(aside))
        elif given.config.get("architectures") == ["BertModel"]:
            start(base, (text for row in rows for text in row["passages"]), base := Path(aside))
        by_word = reranker_kind(describe(base)) == "late-interaction"
        model = CrossEncoder(
            str(base),
            num_labels=1,
            # torch's own takes most of a step on a CPU; it saves memory, of which short windows need little
            model_kwargs={"attn_implementation": "eager"} if by_word and not cuda else {},
            max_length=recipe.tokens,
            local_files_only=True,
            config_kwargs=NO_DROPOUT,
            activation_fn=torch.nn.Identity(),  # the order adds fusion's score to the logit, as the loss does
        )
    body: Any = model[0].model
    # most words are in no question: theirs would stay while the others move away
    body.get_input_embeddings().weight.requires_grad_(False)
    before = {name: value.detach().clone() for name, value in body.named_parameters()}
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(into / "checkpoints"),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.lists_a_step,
        learning_rate=recipe.learning_rate,
        learning_rate_mapping={name: recipe.learning_rate * times for name, times in FASTER.items() if by_word},
        warmup_steps=0.1,
        weight_decay=0.01,
        bf16=cuda or (by_word and has_bf16()),
        use_cpu=not cuda,
        save_steps=100,
        save_total_limit=1,
        logging_steps=20,
        report_to="none",
        disable_tqdm=True,
        seed=7,
    )
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(
            {
                "query": [row["query"] for row in rows],
                "passages": [row["passages"] for row in rows],
                "fusion": [row["fusion"] for row in rows],
                "label": [row["gains"] for row in rows],
            }
        ),
        loss=ListwiseLoss(model, recipe.fusion_weight),
        callbacks=[progress(report)],
    )
    trainer.remove_callback(PrinterCallback)  # it would print among the steps
    trainer.train(resume_from_checkpoint=get_last_checkpoint(arguments.output_dir) if into.exists() else None)
    with torch.no_grad():
        for name, value in body.named_parameters():
            value.copy_(torch.lerp(before[name].to(value.device), value, recipe.kept))
    # as long as it can read: what was cut to train in less time is not cut to order
    model.tokenizer.model_max_length = getattr(body.config, "max_position_embeddings", recipe.tokens)
    model.save_pretrained(str(into), create_model_card=False)


def progress(report: Callable[[int, int], None]) -> Any:
    """A trainer's callback: `report` is told of each step, and standard error what is logged."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            report(state.global_step, state.max_steps)

        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            print(logs, file=sys.stderr, flush=True)

    return Progress()


def main() -> None:
    """Train; a line `done of steps` a step on standard output."""
    written = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    train(Recipe(**{**written, "lists": tuple(written["lists"])}), lambda done, n: print(f"{done} of {n}", flush=True))


if __name__ == "__main__":
    main()

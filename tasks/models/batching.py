"""Run an ONNX graph over tokenized texts in small, length-sorted batches on several threads.

On a CPU padding and big batches lose: batches hold texts of like length, 512 tokens in all. Threads stand outside the
session, one core each (80 chunks/s on 2 cores against 74 with two threads inside).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Encoding

from schemas.errors import ModelMismatch

BATCH_TOKENS = 512


class Session:
    """An ONNX graph of int64[batch, tokens] inputs and one float[batch, …] output. Raises ModelMismatch."""

    def __init__(
        self, path: Path, threads: int, batch_tokens: int = BATCH_TOKENS, pad_id: int = 0, *, cuda: bool = False
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            provider = "CUDAExecutionProvider" if cuda else "CPUExecutionProvider"
            # the fused sum and normalisation is slower than the two apart: a tenth of an int8 pair's time
            self._session = ort.InferenceSession(
                str(path), options, providers=[provider], disabled_optimizers=["SkipLayerNormFusion"]
            )
        except Exception as error:  # ONNX Runtime's errors have no base class but Exception
            raise ModelMismatch(f"{path} cannot be loaded: {error}; delete {path.parent} to export it again") from error
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._pad_id = pad_id
        self._batch_tokens = batch_tokens
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="onnx")

    def run(self, encodings: Sequence[Encoding]) -> list[np.ndarray]:
        """The output row of each of `encodings`, in their order."""
        rows: list[np.ndarray] = [np.empty(0)] * len(encodings)

        def run_batch(batch: list[int]) -> None:
            (output,) = self._session.run(None, self._feed([encodings[i] for i in batch]))
            for i, row in zip(batch, output, strict=True):
                rows[i] = row

        # a batch's error is raised here
        for _ in self._threads.map(run_batch, length_sorted([len(e) for e in encodings], self._batch_tokens)):
            pass
        return rows

    def _feed(self, encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
        longest = max(len(encoding) for encoding in encodings)
        feed = {name: np.zeros((len(encodings), longest), dtype=np.int64) for name in self._inputs}
        feed["input_ids"].fill(self._pad_id)
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        for name, array in feed.items():
            for row, encoding in zip(array, encodings, strict=True):
                values = getattr(encoding, columns[name])
                row[: len(values)] = values
        return feed


def length_sorted(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Batches of indexes, longest texts first, of at most `budget` tokens once padded; a longer text alone."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # sorted: the first of a batch is its longest
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

"""monoT5: whether a T5 model goes on with `true` or with `false` after query and passage.

Nogueira et al. 2020, https://arxiv.org/abs/2003.06713. The score is the difference of the two words' logits, which
orders as their probability does and does not round to 1 for all that is relevant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.blend import Blend
from tasks.models.batching import length_sorted
from tasks.models.folders import describe
from tasks.models.rerankers import required
from tasks.models.resolve import resolve

PROMPT = "Query: {} Document: {} Relevant:"

# The words for relevant and not, by how a model's name begins: those trained in another way than the paper's.
WORDS = {"mt5-": ("▁yes", "▁no"), "ptt5-": ("▁sim", "▁não"), "monoptt5-": ("▁Sim", "▁Não")}
PAPERS = ("▁true", "▁false")

# Tokens of a batch once padded.
BATCH_TOKENS = {"cpu": 1_000, "cuda": 60_000}


class MonoT5:
    """`monot5:MODEL`, by folder, cached or hub name. Raises MissingRequirement, ModelNotFound, ModelMismatch."""

    blend = Blend()

    def __init__(self, name: str, settings: Settings) -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # of reading the weights
        folder = describe(resolve(name, settings, also=("spiece.model",)))
        if not (folder.path / "tokenizer.json").is_file():
            with required("monot5"):
                import sentencepiece  # noqa: F401  # transformers reads spiece.model with it
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)
            model = AutoModelForSeq2SeqLM.from_pretrained(folder.path, local_files_only=True, dtype="float32")
        except (OSError, LookupError, ValueError, RuntimeError) as error:
            raise ModelMismatch(f"{folder.path} is no model of text to text: {error}") from error
        self._model = model.to(self._device).eval()
        words = next((words for start, words in WORDS.items() if folder.name.startswith(start)), PAPERS)
        self._words = [self._tokenizer.convert_tokens_to_ids(word) for word in words]
        if self._tokenizer.unk_token_id in self._words:
            raise ModelMismatch(f"{folder.path} is no monoT5: its vocabulary has no {' or '.join(words)}")
        self.max_tokens = min(settings.rerank_tokens, self._tokenizer.model_max_length)
        self.name = f"monot5:{folder.name}"
        self.fingerprint = (
            f"{self.name}, {folder.weights.stat().st_size} bytes, {self.max_tokens} tokens, {self._device}"
        )

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]: higher is more relevant; in the order of `texts`."""
        query = self._cut(query, self.max_tokens // 2)
        room = self.max_tokens - len(self._tokenizer(PROMPT.format(query, "")).input_ids)
        prompts = [PROMPT.format(query, self._cut(text, room)) for text in texts]
        encoded = [self._tokenizer(prompt).input_ids for prompt in prompts]
        scores = np.empty(len(texts), dtype=np.float32)
        for batch in length_sorted([len(ids) for ids in encoded], BATCH_TOKENS[self._device]):
            scores[batch] = self._scores([encoded[i] for i in batch])
        return scores

    def _scores(self, encoded: Sequence[list[int]]) -> np.ndarray:
        """float32[n] of prompts as token ids."""
        padded = self._tokenizer.pad({"input_ids": list(encoded)}, return_tensors="pt").to(self._device)
        start = self._torch.full((len(encoded), 1), self._model.config.decoder_start_token_id, device=self._device)
        with self._torch.inference_mode():
            logits = self._model(**padded, decoder_input_ids=start).logits[:, 0, self._words].float()
        scores: np.ndarray = (logits[:, 0] - logits[:, 1]).cpu().numpy()
        return scores

    def _cut(self, text: str, tokens: int) -> str:
        """The first tokens of a text: the passage is cut, not the end of the prompt."""
        offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]


load = MonoT5

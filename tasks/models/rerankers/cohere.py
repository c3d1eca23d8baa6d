"""Cohere's rerankers, https://docs.cohere.com/reference/rerank, by Cohere's own package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from schemas.settings import Settings
from tasks.models.rerankers import required
from tasks.models.rerankers.access import required_key, url_of
from tasks.models.rerankers.remote import Hosted, Refusal


class Cohere(Hosted):
    """`cohere:MODEL`, by version 2 of the API. Raises MissingRequirement."""

    kind = "cohere"
    url: str | None = None  # where nobody says another; None for Cohere's

    def __init__(self, model: str, settings: Settings) -> None:
        with required(self.kind):
            import cohere
            from cohere.core.api_error import ApiError
        key = required_key(self.kind, settings)
        super().__init__(f"{self.kind}:{model}", settings, key)
        self._model, self._error = model, ApiError
        url = url_of(self.kind, settings) or self.url
        self._client = cohere.Client(key, base_url=url, log_warning_experimental_features=False)

    def ask(self, query: str, texts: Sequence[str], seconds: float) -> Iterable[tuple[Any, Any]]:
        """See Hosted."""
        answer = self._client.v2.rerank(
            model=self._model,
            query=query,
            documents=list(texts),
            top_n=len(texts),
            request_options={"timeout_in_seconds": seconds, "max_retries": 0},
        )
        return [(found.index, found.relevance_score) for found in answer.results]

    def refusal(self, error: Exception) -> Refusal | None:
        """See Remote."""
        if isinstance(error, self._error) and error.status_code is not None:
            return Refusal(error.status_code, error.body, error.headers or {})
        return None


load = Cohere

"""Voyage's rerankers, https://docs.voyageai.com/docs/reranker, by Voyage's own package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from schemas.settings import Settings
from tasks.models.rerankers import required
from tasks.models.rerankers.access import required_key, url_of
from tasks.models.rerankers.remote import Hosted, Refusal


class Voyage(Hosted):
    """`voyage:MODEL`. Raises MissingRequirement."""

    def __init__(self, model: str, settings: Settings) -> None:
        with required("voyage"):
            import voyageai
            from voyageai.error import VoyageError
        super().__init__(f"voyage:{model}", settings, required_key("voyage", settings))
        self._model, self._error, self._package = model, VoyageError, voyageai
        self._url = url_of("voyage", settings)

    def ask(self, query: str, texts: Sequence[str], seconds: float) -> Iterable[tuple[Any, Any]]:
        """See Hosted."""
        # a client is no connection, and has its limit of time once for all
        client = self._package.Client(self._key, max_retries=0, timeout=seconds, base_url=self._url)
        answer = client.rerank(query, list(texts), model=self._model, top_k=len(texts))
        return [(found.index, found.relevance_score) for found in answer.results]

    def refusal(self, error: Exception) -> Refusal | None:
        """See Remote."""
        if isinstance(error, self._error) and error.http_status is not None:
            return Refusal(error.http_status, error.json_body or error.http_body, error.headers)
        return None


load = Voyage

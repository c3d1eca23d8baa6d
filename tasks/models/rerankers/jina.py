"""Jina's rerankers, https://api.jina.ai/redoc, by Cohere's package.

Jina has none of its own for this; its API has the form of version 1 of Cohere's, as that of vLLM and of other servers
which can be named in rerank_urls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tasks.models.rerankers.cohere import Cohere


class Jina(Cohere):
    """`jina:MODEL`. Raises MissingRequirement."""

    kind = "jina"
    url = "https://api.jina.ai"

    def ask(self, query: str, texts: Sequence[str], seconds: float) -> Iterable[tuple[Any, Any]]:
        """See Hosted."""
        answer = self._client.rerank(
            model=self._model,
            query=query,
            documents=list(texts),
            top_n=len(texts),
            return_documents=False,
            request_options={"timeout_in_seconds": seconds, "max_retries": 0},
        )
        return [(found.index, found.relevance_score) for found in answer.results]


load = Jina

"""Rerankers on Amazon Bedrock, Cohere's and Amazon's own, by the operation Rerank through boto3.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_Rerank.html. Credentials, region and endpoint
come as everywhere in boto3: from its variables, files and roles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from schemas.errors import MissingRequirement
from schemas.settings import Settings
from tasks.models.rerankers import required
from tasks.models.rerankers.access import url_of
from tasks.models.rerankers.remote import GRACE_S, Hosted, Refusal


class Bedrock(Hosted):
    """`bedrock:MODEL`: cohere.rerank-v3-5:0, amazon.rerank-v1:0, or a model's ARN. Raises MissingRequirement."""

    def __init__(self, model: str, settings: Settings) -> None:
        with required("bedrock"):
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        super().__init__(f"bedrock:{model}", settings, key=None)  # requests are signed, nothing secret is sent
        self._error = ClientError
        try:
            session = boto3.Session()
            region = model.split(":")[3] if model.startswith("arn:") else session.region_name
            found = session.get_credentials() is not None
            if not region or not found:
                needed, variables = (
                    ("credentials", "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
                    if region
                    else ("a region", "AWS_DEFAULT_REGION")
                )
                raise MissingRequirement(f"{self.name} needs {needed} of AWS: set {variables}")
            partition = session.get_partition_for_region(region)
            limits = {"connect_timeout": self.seconds + GRACE_S, "read_timeout": self.seconds + GRACE_S}
            client = session.client(
                "bedrock-agent-runtime",
                region_name=region,
                endpoint_url=url_of("bedrock", settings),
                config=Config(**limits, retries={"total_max_attempts": 1}),
            )
        except (BotoCoreError, IndexError, ValueError) as error:  # a region, an ARN or a URL that is none
            raise MissingRequirement(f"{self.name} cannot be set up: {error}; check AWS's configuration") from error
        self._arn = model if model.startswith("arn:") else f"arn:{partition}:bedrock:{region}::foundation-model/{model}"
        self._pages = client.get_paginator("rerank")

    def ask(self, query: str, texts: Sequence[str], seconds: float) -> Iterable[tuple[Any, Any]]:
        """See Hosted; the limit of time is that of the settings, as a client has it once for all."""
        pages = self._pages.paginate(
            queries=[{"type": "TEXT", "textQuery": {"text": query}}],
            sources=[
                {
                    "type": "INLINE",
                    "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}},
                }
                for text in texts
            ],
            rerankingConfiguration={
                "type": "BEDROCK_RERANKING_MODEL",
                "bedrockRerankingConfiguration": {
                    "numberOfResults": len(texts),
                    "modelConfiguration": {"modelArn": self._arn},
                },
            },
        )
        return ((found["index"], found["relevanceScore"]) for page in pages for found in page["results"])

    def refusal(self, error: Exception) -> Refusal | None:
        """See Remote."""
        if not isinstance(error, self._error):
            return None
        about = error.response.get("ResponseMetadata", {})
        return Refusal(about.get("HTTPStatusCode", 0), error.response.get("Error"), about.get("HTTPHeaders", {}))


load = Bedrock

"""Headrace's flows as deployments: `headrace serve` keeps them without a work pool, deploy/prefect.yaml with one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from flows.compact import compact_flow
from flows.evaluation import evaluate_flow
from flows.query import query_flow
from flows.refresh import refresh_flow
from flows.watch import watch_flow

# One run at a time, of a flow that writes; others wait for it. Between flows the store's own lock stands.
ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)


@dataclass(frozen=True)
class Served:
    """A flow, and how its runs are made where whoever starts one says nothing else."""

    flow: Flow[..., Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    cron: str | None = None
    writes: bool = True

    def deployment(self, timezone: str | None) -> RunnerDeployment:
        """Its deployment, under the flow's own name: refresh/refresh, query/query."""
        return RunnerDeployment.from_flow(
            self.flow,
            name=self.flow.name,
            parameters=self.parameters,
            schedule=Cron(self.cron, timezone=timezone) if self.cron else None,
            concurrency_limit=ONE_AT_A_TIME if self.writes else None,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


def served(
    sources: list[str],
    settings: dict[str, Any],
    golden: dict[str, str],
    *,
    cron: str | None,
    compact_cron: str | None,
    evaluate_cron: str | None,
) -> list[Served]:
    """What `headrace serve` serves. `settings` are those of each run, `golden` the files that evaluate is given."""
    common = {"settings": settings}
    return [
        Served(refresh_flow, {"sources": sources, **common}, cron),
        Served(watch_flow, {"sources": sources, **common}),
        Served(compact_flow, common, compact_cron),
        Served(evaluate_flow, {**golden, **common}, evaluate_cron),
        Served(query_flow, common, writes=False),
    ]

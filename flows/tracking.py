"""Whether and how a refresh of the command line is tracked by Prefect."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ApiUnreachable
from schemas.records import RefreshSummary
from schemas.settings import Settings
from tasks.refresh import Report

# Seconds that Prefect may take to send its last logs and events.
DRAIN_S = 5.0


def api_configured() -> bool:
    """Whether a Prefect API is configured, by PREFECT_API_URL or the active profile; read without importing Prefect."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")).expanduser()
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    return bool(profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))


def tracked_refresh(sources: Sequence[str], settings: Settings, report: Report) -> RefreshSummary:
    """Refresh as a Prefect flow run, against the configured API or one that lives as long as the run."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.refresh import progress, refresh_flow

    # a heartbeat thread would make the end of a short run wait for it
    with _api(), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        token = progress.set(report)
        try:
            summary: RefreshSummary = refresh_flow(list(sources), settings, patience_s=0)
        finally:
            progress.reset(token)
        return summary


def require_api() -> str:
    """The configured API's URL. Raises ApiUnreachable where it does not answer."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    with get_client(sync_client=True) as client:
        if problem := client.api_healthcheck():
            raise ApiUnreachable(
                f"the Prefect API at {PREFECT_API_URL.value()} does not answer ({problem}); start it, or unset "
                "PREFECT_API_URL to run without tracking"
            )
    return str(PREFECT_API_URL.value())


@contextmanager
def _api() -> Iterator[None]:
    """The configured API, or a temporary one that is stopped whatever happens."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if api_configured():
        require_api()
        yield
        return

    server = SubprocessASGIServer()
    try:
        server.start()
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield
    finally:
        # what Prefect still has to send it sends now; at exit it would wait for an API that is gone
        for service in (EventsWorker, APILogWorker):
            service.drain_all(timeout=DRAIN_S)
        server.stop()

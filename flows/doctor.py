"""`headrace doctor`: is everything here that ingest and query need, and do they keep off the network?

The proof is asked for by an option, since it ingests and queries for real and then waits for whoever reports home on a
timer: some 40 s, where the other checks take two.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.options import JsonOption, StoreOption, err, out, print_json, sample_corpus, settings_of
from flows.printing import print_findings
from schemas.errors import ApiUnreachable, HeadraceError
from schemas.settings import Settings
from tasks.doctor.finding import Finding
from tasks.doctor.isolation import Isolated, run_isolated
from tasks.models import decided
from tasks.store.generation import read

# Modules below tasks.doctor and their checks. Imported one by one: a package that is missing costs its own checks.
CHECKS = {
    "software": ("python", "packages", "extensions", "converters"),
    "machine": ("cpu", "threads", "cuda", "disk"),
    "models": ("embedder", "reranker"),
    "store": ("store",),
}
QUESTION = "how do we rotate TLS certificates automatically?"
# Seconds that a command of the proof lives on after its work: ONNX Runtime's telemetry (see tasks.models) sends 5 to 12
# seconds after a model was loaded, when the sample corpus is done.
LINGER_S = 15
COMMAND = f"import atexit, time; atexit.register(time.sleep, {LINGER_S}); from flows.cli import main; main()"
# The proof is of Headrace itself; an API that somebody configured is meant to be spoken to.
WITHOUT_PREFECT = {"PREFECT_API_URL": "", "PREFECT_PROFILES_PATH": os.devnull}


def doctor(
    store: StoreOption = None,
    offline_proof: Annotated[
        bool,
        typer.Option(
            "--offline-proof", help="Also ingest and query the sample corpus without a network, and report any attempt."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check versions, models, disk, store and machine; exit with 1 where something cannot work.

    A warning names what may be slow or left out, and does not change the exit code. Nothing is changed or fetched.
    """
    settings = settings_of(store, None, {})
    with err.status("checking"):
        findings = dict(diagnose(settings))
        if offline_proof:
            findings["offline"] = prove_offline()
    if as_json:
        print_json({name: asdict(finding) for name, finding in findings.items()})
    else:
        print_findings(out, findings)
        if not offline_proof:
            out.print("[dim]that nothing reaches for the network: headrace doctor --offline-proof[/dim]")
    if any(finding.verdict == "failed" for finding in findings.values()):
        raise typer.Exit(1)


def diagnose(settings: Settings) -> Iterator[tuple[str, Finding]]:
    """Every check's name and finding. An error that says what to do is a finding too."""
    try:
        settings = decided(settings, read(settings.store).embedder)
    except HeadraceError:  # there is no store, or its check says what is wrong with it
        settings = decided(settings, None)
    for module, names in CHECKS.items():
        for name in names:
            try:
                yield name, getattr(importlib.import_module(f"tasks.doctor.{module}"), name)(settings)
            except (HeadraceError, OSError) as error:
                yield name, Finding("failed", str(error))
            except ImportError as error:
                yield name, Finding("failed", f"{error}", "install Headrace in an environment of its own")
    yield "prefect", prefect()


def prefect() -> Finding:
    """The Prefect API, where one is configured; else Prefect is not even imported."""
    from flows.tracking import api_configured, require_api

    if not api_configured():
        return Finding("ok", "no API is configured, runs are not tracked")
    try:
        return Finding("ok", f"the API at {require_api()} answers")
    except ApiUnreachable as error:
        return Finding("failed", str(error))


def prove_offline() -> Finding:
    """Ingest the sample corpus and ask it a question, both by the command line, in processes that cannot connect."""
    started = time.perf_counter()
    headrace = [sys.executable, "-c", COMMAND]
    with tempfile.TemporaryDirectory(prefix="headrace-doctor-") as folder:
        store = ["--store", str(Path(folder, "index")), "--json"]
        ingest = run_isolated([*headrace, "ingest", str(sample_corpus()), *store], WITHOUT_PREFECT)
        if problem := _problem("ingest", ingest):
            return problem
        query = run_isolated([*headrace, "query", QUESTION, *store], WITHOUT_PREFECT)
        if problem := _problem("query", query):
            return problem
    summary, hits = json.loads(ingest.output), len(json.loads(query.output)["hits"])
    if summary["quarantined"]:  # they parse where there is a network, or the demo would not show them
        return Finding("failed", f"{summary['quarantined']} sample documents cannot be parsed without a network")
    took = f"{time.perf_counter() - started:.0f} s"
    did = f"ingest ({summary['added']} documents) and query ({hits} hits) ran {took} without a network"
    if ingest.no_namespace or query.no_namespace:
        return Finding(
            "ok",
            f"{did}\nno Python process of theirs tried to connect or to resolve a name, by audit hooks\n"
            f"other programs were not watched: no network namespace here ({ingest.no_namespace})",
        )
    return Finding(
        "ok",
        f"{did}\nin a network namespace without interfaces; none of their processes tried to connect or to resolve a "
        "name, by audit hooks in Python and by the kernel's count of what found no route",
    )


def _problem(command: str, ran: Isolated) -> Finding | None:
    """What speaks against `command`: an attempt first, for it may be why the command failed."""
    if ran.attempts or ran.unrouted:
        told = "; ".join(ran.attempts) or f"code that is not Python, {ran.unrouted} times"
        return Finding(
            "failed",
            f"headrace {command} reached for the network: {told}",
            "set allow_download=false and a reranker of this machine; where they are, report this",
        )
    if ran.returncode:
        last = (ran.errors.strip().splitlines() or ["it said nothing"])[-1]
        return Finding("failed", f"headrace {command} ended with {ran.returncode} without a network: {last}")
    return None

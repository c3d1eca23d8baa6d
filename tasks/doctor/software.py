"""Check what is installed: Python, packages, DuckDB's extensions, converters."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from schemas.settings import Settings
from tasks.doctor.finding import Finding
from tasks.store.connection import connect


def python(_: Settings) -> Finding:
    """This Python against the versions that Headrace is made for."""
    version, wanted = platform.python_version(), _declared()[0]
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Finding("ok", f"{version} of {wanted}")
    return Finding("failed", f"{version}, Headrace needs {wanted}", "install Headrace with a Python of that range")


def packages(_: Settings) -> Finding:
    """Installed packages against what Headrace requires, and what those require in turn."""
    seen: set[tuple[str, frozenset[str]]] = set()
    problems = list(unmet(_declared()[1], "headrace", seen))
    if not problems:
        return Finding("ok", f"{len(seen)} packages fit what Headrace and they themselves require")
    own = any(by == "headrace" for by, _ in problems)
    return Finding(
        "failed" if own else "warning",
        "; ".join(problem for _, problem in problems),
        "install Headrace in an environment of its own",
    )


def missing(extra: str) -> list[str]:
    """What one of Headrace's extras requires itself, and is missing or of another version."""
    return [problem for by, problem in unmet(_declared()[1], "headrace", set(), frozenset({extra})) if by == "headrace"]


def unmet(
    requirements: Iterable[str],
    by: str,
    seen: set[tuple[str, frozenset[str]]],
    extras: frozenset[str] = frozenset(),
) -> Iterator[tuple[str, str]]:
    """What `by`, with its `extras`, requires and is missing or of another version, and so on down.

    Each as (who requires it, what is wrong). `seen` collects what was looked at, by name and extras.
    """
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        try:
            installed = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield by, f"{requirement.name} is missing, {by} needs it"
            continue
        if not requirement.specifier.contains(installed.version, prereleases=True):
            yield by, f"{requirement.name} is {installed.version}, {by} needs {requirement.specifier}"
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            yield from unmet(installed.requires or (), requirement.name, seen, key[1])


def extensions(_: Settings) -> Finding:
    """DuckDB's fts and vss from their PyPI packages; DuckDB checks their signatures and is kept from fetching any."""
    try:
        connect().close()
    except duckdb.Error as error:
        return Finding(
            "failed",
            f"DuckDB {duckdb.__version__} cannot load fts and vss: {error}",
            "run: pip install --force-reinstall --no-deps "
            + " ".join(f"{name}=={duckdb.__version__}" for name in ("duckdb-extension-fts", "duckdb-extension-vss")),
        )
    return Finding("ok", f"DuckDB {duckdb.__version__} loads fts and vss from their packages")


def converters(_: Settings) -> Finding:
    """Programs that only some formats need: without them such files go to quarantine, so none of them is a must."""
    import pypandoc

    try:
        found, missing = [f"pandoc {pypandoc.get_pandoc_version()}"], []
    except OSError:
        found, missing = [], ["pandoc for .org, .rtf and .odt"]
    if shutil.which("soffice"):
        found.append("soffice")
    else:
        missing.append("soffice (LibreOffice) for .doc and .ppt")
    detail = ", ".join([*found, *(f"no {what}" for what in missing)])
    return Finding("ok", detail, "without it on the PATH such files go to quarantine" if missing else "")


def _declared() -> tuple[str, list[str]]:
    """The Python versions and the packages that Headrace and its extras require, as installed, else as checked out."""
    try:
        installed = importlib.metadata.distribution("headrace")
    except importlib.metadata.PackageNotFoundError:
        text = Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
        extras = project["optional-dependencies"].items()
        optional = [f"{name}; extra == {extra!r}" for extra, names in extras for name in names]
        return project["requires-python"], project["dependencies"] + optional
    return installed.metadata["Requires-Python"], installed.requires or []

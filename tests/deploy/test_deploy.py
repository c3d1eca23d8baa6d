"""What deploy/ starts exists: commands and their options, settings, paths, ports, images, users agree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flows.cli import app
from schemas.settings import Settings
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
KUBERNETES: dict[tuple[str, str], dict[str, Any]] = {
    (manifest["kind"], manifest["metadata"]["name"]): manifest
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for manifest in yaml.safe_load_all(path.read_text())
}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMMON = (DEPLOY / "systemd" / "headrace-.service.d" / "common.conf").read_text()
CONFIG: dict[str, str] = KUBERNETES["ConfigMap", "headrace"]["data"]


def pod(name: str, kind: str = "Deployment") -> dict[str, Any]:
    spec: dict[str, Any] = KUBERNETES[kind, name]["spec"]["template"]["spec"]
    return spec


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for (kind, name), manifest in KUBERNETES.items():
        if "template" in manifest.get("spec", {}):
            spec = manifest["spec"]["template"]["spec"]
            for container in spec["containers"]:
                yield f"{kind} {name}", spec, container


def command_lines() -> Iterator[Any]:
    """Every command line of `headrace` in deploy/."""
    for line in re.findall(r"headrace ((?:demo|ingest)[^\\\n]*)", DOCKERFILE.replace("~/docs", "/srv/docs")):
        yield pytest.param(shlex.split(line), id=f"Dockerfile {line}")
    for name, service in COMPOSE.items():
        if "entrypoint" not in service and "postgres" not in service.get("image", ""):
            yield pytest.param(service["command"], id=f"compose {name}")
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=/opt/headrace/bin/headrace (.*)$", unit.read_text(), re.MULTILINE)
        yield pytest.param(shlex.split(line), id=unit.name)
    for name, _, container in containers():
        if container["command"][0] == "headrace":
            yield pytest.param(container["command"][1:], id=f"kubernetes {name}")


@pytest.mark.parametrize("arguments", list(command_lines()))
def test_command_line_is_one_that_headrace_takes(arguments: list[str]) -> None:
    group = typer.main.get_command(app)
    with group.make_context("headrace", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, list(arguments))  # type: ignore[attr-defined]
        command.make_context(name, rest, parent=context)  # raises on what it does not know


def test_every_variable_is_a_setting() -> None:
    from prefect.settings.legacy import _get_valid_setting_names
    from prefect.settings.models.root import Settings as PrefectSettings

    text = "\n".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file())
    ours = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bHEADRACE_\w+", text)) <= ours
    assert set(re.findall(r"\bPREFECT_\w+", text)) <= _get_valid_setting_names(PrefectSettings)
    fields = {name.removeprefix("HEADRACE_").lower(): value for name, value in CONFIG.items() if "HEADRACE_" in name}
    Settings(**fields)  # type: ignore[arg-type]


def test_image_is_made_of_files_that_are_here() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources > {"pyproject.toml", "flows", "tasks", "schemas"}
    assert all((ROOT / source).exists() for source in sources)
    let_through = re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert set(let_through) == sources
    for service in COMPOSE.values():
        if "build" in service:
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()
    user = re.search(r"--uid (\d+)", DOCKERFILE)
    assert user is not None
    assert f"USER {user[1]}" in DOCKERFILE
    assert {spec["securityContext"]["runAsUser"] for _, spec, _ in containers()} == {int(user[1])}


def test_ports_are_those_that_the_commands_open() -> None:
    (ours,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    for service in ("prefect", "http"):
        arguments = COMPOSE[service]["command"]
        port = arguments[arguments.index("--port") + 1]
        assert [mapping.split(":")[-1] for mapping in COMPOSE[service]["ports"]] == [port]
        assert all(mapping.startswith("127.0.0.1:") for mapping in COMPOSE[service]["ports"])
        assert port in "".join(COMPOSE[service]["healthcheck"]["test"])
    assert COMPOSE["http"]["ports"] == [f"127.0.0.1:{ours}:{ours}"]
    assert COMPOSE["worker"]["environment"]["PREFECT_API_URL"] == "http://prefect:4200/api"
    for name, _, container in containers():
        ports = {port["name"]: str(port["containerPort"]) for port in container.get("ports", ())}
        if "--port" in container["command"]:
            assert list(ports.values()) == [container["command"][container["command"].index("--port") + 1]], name
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container.get(probe, {})
            assert all(asked[how]["port"] in ports for how in ("httpGet", "tcpSocket") if how in asked), name
    assert pod("headrace-http")["containers"][0]["ports"][0]["containerPort"] == int(ours)


def test_probes_ask_for_what_the_server_answers_without_a_token() -> None:
    from flows.http_app import OPEN_PATHS

    container = pod("headrace-http")["containers"][0]
    asked = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
    assert set(asked.values()) <= set(OPEN_PATHS)
    assert asked["readinessProbe"] == "/healthz"
    # it says 503 until there is a store, which no restart can help
    assert "/healthz" not in {asked["startupProbe"], asked["livenessProbe"]}


def test_one_pod_writes_and_the_readers_cannot() -> None:
    worker = KUBERNETES["Deployment", "headrace-worker"]["spec"]
    assert (worker["replicas"], worker["strategy"]) == (1, {"type": "Recreate"})
    mounts = {mount["name"]: mount for mount in pod("headrace-http")["containers"][0]["volumeMounts"]}
    assert mounts["headrace"]["readOnly"] is True
    assert COMPOSE["http"]["volumes"] == ["headrace:/srv/headrace:ro"]
    assert KUBERNETES["PersistentVolumeClaim", "headrace"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_dask_in_kubernetes_is_where_the_settings_look_for_it() -> None:
    kind, _, address = CONFIG["HEADRACE_TASK_RUNNER"].partition(":")
    service = KUBERNETES["Service", "headrace-dask"]
    assert (kind, address) == ("dask", f"tcp://headrace-dask:{service['spec']['ports'][0]['port']}")
    assert address in pod("headrace-dask-worker")["containers"][0]["command"]
    assert KUBERNETES["Deployment", "headrace-dask-worker"]["spec"]["replicas"] == int(CONFIG["HEADRACE_TASK_WORKERS"])

    def data(name: str) -> list[dict[str, Any]]:
        return [mount for mount in pod(name)["containers"][0]["volumeMounts"] if mount["name"] != "tmp"]

    assert data("headrace-dask-worker") == data("headrace-worker")  # the same paths on every machine


def test_services_select_pods_and_volumes_are_claimed() -> None:
    labels = [
        m["spec"]["template"]["metadata"]["labels"] for m in KUBERNETES.values() if "template" in m.get("spec", {})
    ]
    for (kind, name), manifest in KUBERNETES.items():
        if kind == "Service":
            assert manifest["spec"]["selector"] in labels, name
        if kind == "Deployment":
            assert manifest["spec"]["selector"]["matchLabels"] == manifest["spec"]["template"]["metadata"]["labels"]
    for name, spec, container in containers():
        assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}, name
        assert container["securityContext"]["readOnlyRootFilesystem"], name
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    assert {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} == {
        "kustomization.yaml",
        *kustomization["resources"],
    }


def test_flows_of_deployments_are_there() -> None:
    for deployment in yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]:
        path, _, name = deployment["entrypoint"].rpartition(":" if ":" in deployment["entrypoint"] else ".")
        # our own by module, which workers have, and not by file, which they may not
        file = ROOT / (path if path.endswith(".py") else f"{path.replace('.', '/')}.py")
        assert path.startswith("deploy/" if path.endswith(".py") else "flows."), path
        assert f"def {name}(" in file.read_text()


def test_stores_lie_where_their_writers_may_write() -> None:
    deployments = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    stores = {d["parameters"]["settings"]["store"] for d in deployments if "settings" in d.get("parameters", {})}
    (compose,) = {
        service["command"][service["command"].index("--store") + 1]
        for service in map(COMPOSE.get, ("watch", "http"))
        if service
    }
    assert stores == {compose, CONFIG["HEADRACE_STORE"]} == {"/srv/headrace/index"}
    assert {s for d in deployments for s in d.get("parameters", {}).get("sources", ())} == {"/srv/docs"}
    for service in ("worker", "watch"):
        assert "headrace:/srv/headrace" in COMPOSE[service]["volumes"]
        assert COMPOSE[service]["volumes"][1].endswith(":/srv/docs:ro")
    written = dict(
        re.findall(r"^(HEADRACE_\w+)=(.*)$", (DEPLOY / "systemd" / "headrace.env").read_text(), re.MULTILINE)
    )
    folders = dict(re.findall(r"^(\w+Directory)=(.*)$", COMMON, re.MULTILINE))
    assert Path(written["HEADRACE_STORE"]).parent == Path("/var/lib", folders["StateDirectory"])
    assert Path(written["HEADRACE_CACHE"]) == Path("/var/cache", folders["CacheDirectory"])
    assert folders["WorkingDirectory"] == f"/var/lib/{folders['StateDirectory']}"

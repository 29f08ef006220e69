"""What is in deploy/ holds together: the published schemas, references between parts, and command lines that floodmark takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from kubernetes_validate import ValidationError, latest_version, validate  # type: ignore[import-untyped]
from typer.main import get_command

from floodmark.cli import app

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
IMAGE = "floodmark:latest"
OLDEST = "1.25.0"
"""The oldest whose schemas the package has; older ones are long out of support."""


def read(path: Path) -> list[Any]:
    """The objects of a manifest."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def everything() -> list[Any]:
    """The objects of all manifests."""
    return [one for path in FILES for one in read(path)]


def workloads() -> list[Any]:
    """Everything that runs containers."""
    return [one for one in everything() if one["kind"] != "Service"]


def of_kind(kind: str) -> Any:
    """The only object of a kind."""
    [one] = [each for each in everything() if each["kind"] == kind]
    return one


def pod(workload: Any) -> Any:
    """What a workload runs."""
    return workload["spec"]["template"]["spec"]


def test_there_are_manifests_for_agents_nats_and_a_run() -> None:
    assert [path.name for path in FILES] == ["agents.yaml", "nats.yaml", "run.yaml"]


@pytest.mark.parametrize("version", [OLDEST, latest_version()])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_manifest_is_valid_by_the_published_schema_with_no_field_that_is_not_in_it(path: Path, version: str) -> None:
    used = {validate(one, version, strict=True) for one in read(path)}

    assert used == {version.rsplit(".", 1)[0]}  # no older schema stood in


@pytest.mark.parametrize("version", [OLDEST, latest_version()])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec.update(replica=3), "'replica' was unexpected"),
        (lambda spec: spec.pop("selector"), "'selector' is a required property"),
        (lambda spec: spec.update(replicas="4"), "'4' is not"),
        (lambda spec: spec["template"]["spec"]["containers"][0].update(commands=[]), "'commands' was unexpected"),
        (lambda spec: spec["template"]["spec"]["containers"][0]["env"][0].update(value=4), "4 is not"),
    ],
)
def test_slip_of_the_pen_in_a_manifest_is_found(change: Callable[[Any], Any], said: str, version: str) -> None:
    slipped = of_kind("Deployment")
    change(slipped["spec"])

    with pytest.raises(ValidationError, match=re.escape(said)):
        validate(slipped, version, strict=True)


def _missing(workload: Any) -> Iterator[str]:
    """What a workload names and does not have."""
    labels = workload["spec"]["template"]["metadata"]["labels"]
    chosen = workload["spec"].get("selector", {}).get("matchLabels", {})
    spread = [one["labelSelector"]["matchLabels"] for one in pod(workload).get("topologySpreadConstraints", [])]
    yield from (f"label {wanted}" for wanted in [chosen, *spread] if not wanted.items() <= labels.items())
    volumes = {volume["name"] for volume in pod(workload).get("volumes", [])}
    for container in pod(workload)["containers"]:
        yield from (f"volume {mount['name']}" for mount in container.get("volumeMounts", []) if mount["name"] not in volumes)
        named = {port["name"] for port in container.get("ports", [])}
        probed = container.get("readinessProbe", {}).get("tcpSocket", {}).get("port")
        if probed is not None and probed not in named:
            yield f"port {probed}"
        variables = {one["name"] for one in container.get("env", [])}
        words = " ".join(container.get("args", []))
        yield from (f"variable {name}" for name in re.findall(r"\$\((\w+)\)", words) if name not in variables)


def test_labels_volumes_ports_and_variables_that_are_named_are_there() -> None:
    assert [missing for one in workloads() for missing in _missing(one)] == []
    assert {container["image"] for one in workloads() for container in pod(one)["containers"]} == {IMAGE}


def test_what_is_named_and_not_there_is_found() -> None:
    agents, nats = of_kind("Deployment"), of_kind("StatefulSet")
    agents["spec"]["template"]["metadata"]["labels"] = {"app": "another"}
    pod(agents)["volumes"] = []
    pod(agents)["containers"][0]["env"] = []
    pod(nats)["containers"][0]["ports"][0]["name"] = "clients"

    found = [*_missing(agents), *_missing(nats)]

    assert [one.split()[0] for one in found] == ["label", "label", "volume", "variable", "port"]


def test_service_leads_to_the_nats_server_that_agents_and_run_name() -> None:
    service, nats = of_kind("Service"), of_kind("StatefulSet")
    [container] = pod(nats)["containers"]

    assert service["spec"]["selector"].items() <= nats["spec"]["template"]["metadata"]["labels"].items()
    assert service["metadata"]["name"] == nats["spec"]["serviceName"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= {port["name"] for port in container["ports"]}
    url = f"nats://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    others = [one for one in workloads() if one["kind"] != "StatefulSet"]
    assert others
    assert all(url in pod(one)["containers"][0]["args"] for one in others)
    assert container["command"][container["command"].index("--port") + 1] == str(container["ports"][0]["containerPort"])


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_command_line_is_one_that_floodmark_takes(kind: str) -> None:
    name, *words = pod(of_kind(kind))["containers"][0]["args"]
    group: Any = get_command(app)

    context = group.commands[name].make_context(name, list(words))

    assert context.params["nats"].startswith("nats://")


def test_command_line_with_an_unknown_option_would_be_refused() -> None:
    group: Any = get_command(app)

    with pytest.raises(Exception, match="No such option"):
        group.commands["agent"].make_context("agent", ["--natz", "x"])


def test_containerfile_copies_what_is_there_and_names_no_registry() -> None:
    text = (ROOT / "deploy/Containerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]

    assert lines[0] == "ARG BASE=python:3.11-slim"
    assert lines[1] == "FROM ${BASE}"
    assert copied
    assert all((ROOT / word).exists() for word in copied)
    assert "--require-hashes -r requirements.lock" in text
    assert not re.search(r"https?://|\w+\.(io|com|org)\b", text)
    assert lines[-2] == 'ENTRYPOINT ["floodmark"]'

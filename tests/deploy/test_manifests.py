"""What is in deploy/ holds together: fields of the API, references between parts, and command lines that floodmark takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from floodmark.cli import app
from tests.deploy.schema import Items, Manifest, Service, StatefulSet, Workload

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "kubernetes").glob("*.json"))
IMAGE = "floodmark:latest"


def read(path: Path) -> list[Workload | Service]:
    """The objects of a manifest. Raises: msgspec.ValidationError."""
    found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    return list(found.items) if isinstance(found, Items) else [found]


def workloads() -> list[Any]:
    """Everything that runs containers."""
    return [one for path in FILES for one in read(path) if not isinstance(one, Service)]


def test_there_are_manifests_for_agents_nats_and_a_run() -> None:
    assert [path.name for path in FILES] == ["agents.json", "nats.json", "run.json"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_manifest_has_only_fields_of_the_api(path: Path) -> None:
    assert read(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec.update(replica=3), "unknown field `replica`"),
        (lambda spec: spec.pop("selector"), "missing required field `selector`"),
        (lambda spec: spec.update(replicas="4"), "Expected `int`"),
        (lambda spec: spec["template"]["spec"]["containers"][0].update(commands=[]), "unknown field `commands`"),
    ],
)
def test_slip_of_the_pen_in_a_manifest_is_found(change: Any, said: str) -> None:
    raw = json.loads((ROOT / "deploy/kubernetes/agents.json").read_text())
    change(raw["spec"])

    with pytest.raises(msgspec.ValidationError, match=re.escape(said)):
        msgspec.convert(raw, Manifest)


def test_labels_volumes_and_ports_that_are_named_are_there() -> None:
    for one in workloads():
        pod = one.spec.template
        selector = getattr(one.spec, "selector", None)
        assert selector is None or selector.match_labels.items() <= pod.metadata.labels.items()
        volumes = {volume.name for volume in pod.spec.volumes}
        for container in pod.spec.containers:
            assert {mount.name for mount in container.volume_mounts} <= volumes
            assert container.image == IMAGE
            if container.readiness_probe is not None:
                assert container.readiness_probe.tcp_socket.port in {port.name for port in container.ports}


def test_service_leads_to_the_nats_server_that_agents_and_run_name() -> None:
    [service] = [one for path in FILES for one in read(path) if isinstance(one, Service)]
    running = workloads()
    [nats] = [one for one in running if isinstance(one, StatefulSet)]
    [container] = nats.spec.template.spec.containers

    assert service.spec.selector.items() <= nats.spec.template.metadata.labels.items()
    assert service.metadata.name == nats.spec.service_name
    assert {port.target_port for port in service.spec.ports} <= {port.name for port in container.ports}
    url = f"nats://{service.metadata.name}:{service.spec.ports[0].port}"
    others = [one for one in running if one is not nats]
    assert all(url in one.spec.template.spec.containers[0].args for one in others)
    assert container.command[container.command.index("--port") + 1] == str(container.ports[0].container_port)


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_command_line_is_one_that_floodmark_takes(kind: str) -> None:
    [one] = [each for each in workloads() if type(each).__name__ == kind]
    name, *words = one.spec.template.spec.containers[0].args
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

"""The part of the published Kubernetes API that our manifests use: its fields, their types, and which must be there.

Written by hand from the API reference (v1, apps/v1, batch/v1), since no schema is at hand offline. A field that is not here is refused,
so a slip of the pen is found; a field that is new in our manifests is added here, from the reference.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Labels = dict[str, str]


class Part(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Any object of the API: field names are camelCase there."""


class Metadata(Part):
    name: str = ""
    labels: Labels = {}


class LabelSelector(Part):
    match_labels: Labels


class FieldRef(Part):
    field_path: str


class ValueFrom(Part):
    field_ref: FieldRef


class Env(Part):
    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


class ContainerPort(Part):
    container_port: int
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class Resources(Part):
    requests: dict[Literal["cpu", "memory"], str] = {}
    limits: dict[Literal["cpu", "memory"], str] = {}


class VolumeMount(Part):
    name: str
    mount_path: str
    read_only: bool = False


class TcpSocket(Part):
    port: int | str


class Probe(Part):
    tcp_socket: TcpSocket
    period_seconds: int = 10


class ContainerSecurity(Part):
    allow_privilege_escalation: bool | None = None
    read_only_root_filesystem: bool | None = None


class Container(Part):
    name: str
    image: str
    command: list[str] = []
    args: list[str] = []
    env: list[Env] = []
    ports: list[ContainerPort] = []
    readiness_probe: Probe | None = None
    resources: Resources | None = None
    volume_mounts: list[VolumeMount] = []
    security_context: ContainerSecurity | None = None


class Sysctl(Part):
    name: str
    value: str


class PodSecurity(Part):
    run_as_non_root: bool | None = None
    sysctls: list[Sysctl] = []


class Spread(Part):
    max_skew: int
    topology_key: str
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    label_selector: LabelSelector


class EmptyDir(Part):
    pass


class Volume(Part):
    name: str
    empty_dir: EmptyDir


class PodSpec(Part):
    containers: list[Container]
    volumes: list[Volume] = []
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30
    security_context: PodSecurity | None = None
    topology_spread_constraints: list[Spread] = []


class PodTemplate(Part):
    metadata: Metadata
    spec: PodSpec


class DeploymentSpec(Part):
    selector: LabelSelector
    template: PodTemplate
    replicas: int = 1


class StatefulSetSpec(Part):
    selector: LabelSelector
    service_name: str
    template: PodTemplate
    replicas: int = 1


class JobSpec(Part):
    template: PodTemplate
    backoff_limit: int = 6


class ServicePort(Part):
    port: int
    name: str = ""
    target_port: int | str | None = None


class ServiceSpec(Part):
    ports: list[ServicePort]
    selector: Labels
    cluster_ip: str = msgspec.field(name="clusterIP", default="")


class Deployment(Part, tag_field="kind", tag="Deployment"):
    api_version: Literal["apps/v1"]
    metadata: Metadata
    spec: DeploymentSpec


class StatefulSet(Part, tag_field="kind", tag="StatefulSet"):
    api_version: Literal["apps/v1"]
    metadata: Metadata
    spec: StatefulSetSpec


class Job(Part, tag_field="kind", tag="Job"):
    api_version: Literal["batch/v1"]
    metadata: Metadata
    spec: JobSpec


class Service(Part, tag_field="kind", tag="Service"):
    api_version: Literal["v1"]
    metadata: Metadata
    spec: ServiceSpec


class Items(Part, tag_field="kind", tag="List"):
    api_version: Literal["v1"]
    items: list[Deployment | StatefulSet | Job | Service]


Workload = Deployment | StatefulSet | Job
Manifest = Deployment | StatefulSet | Job | Service | Items

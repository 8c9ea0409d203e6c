"""A scenario: device, networks, workload, policy and run, checked where it is read.

Short forms are allowed where they are natural (``device: raspberry-pi-4-2gb``, ``policy: masa``); ``normal``
writes them out, so that every dotted path of a sweep exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from ..devices.units import Size
from ..workloads.workload import Workload

Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceChoice(_Part):
    """A board, with what this scenario changes of it."""

    board: Name
    """Name in the catalogue, or path of a YAML file."""
    memory_limit: Annotated[Size, Field(gt=0)] | None = None
    """What the process may hold; None: what the board says."""
    runtime: dict[str, Any] = {}
    """Keys of the board's runtime to change, e.g. dispatch_period_s: 0."""
    memory: dict[str, Any] = {}
    """Keys of the board's memory to change."""
    storage: dict[str, Any] = {}
    """Keys of the board's storage to change, e.g. pace_bytes_per_s: 40e6."""


class InlineLayer(_Part):
    """A layer by its seconds and bytes; nothing measured is needed."""

    name: str = ""
    load_s: Seconds = 0.0
    execute_s: Seconds = 0.0
    weight_bytes: Annotated[Size, Field(validation_alias=AliasChoices("weight_bytes", "bytes"))] = 0
    output_bytes: Size = 0
    workspace_bytes: Size = 0


class InlineNetwork(_Part):
    """A network written out in the scenario: a chain of layers."""

    name: Name
    layers: Annotated[tuple[InlineLayer, ...], Field(min_length=1, max_length=10_000)]
    init_s: Seconds = 0.0
    conv_layers: Annotated[int, Field(ge=0)] | None = None
    """How many leading layers are convolutional (DeepEye's boundary); None: all."""
    load_copies: Annotated[int, Field(ge=0, le=10)] = 0
    """Transient extra copies while loading."""
    reservation_bytes: Size | None = None
    """What Masa books; None: the layer-wise peak."""
    expected_s: Annotated[float, Field(ge=0)] | None = None
    """Expected seconds (Masa, SJF, HRRN); None: all tasks one after the other."""

    @model_validator(mode="after")
    def _boundary(self) -> InlineNetwork:
        if self.conv_layers is not None and self.conv_layers > len(self.layers):
            raise ValueError(f"conv_layers is {self.conv_layers}, but there are {len(self.layers)} layers")
        return self


class PolicyChoice(_Part):
    """A policy by name, with its parameters beside the name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Name

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything beside the name."""
        return dict(self.model_extra or {})


class Run(_Part):
    """How long, how often, from which seed."""

    requests: Annotated[
        Annotated[int, Field(gt=0, le=10_000_000)] | None,
        Field(validation_alias=AliasChoices("requests", "count")),
    ] = None
    """Requests to simulate; None: until ``duration_s``."""
    duration_s: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Arrivals stop after so long; the run goes on until all are served."""
    warmup_requests: Annotated[int, Field(ge=0)] = 0
    """The first requests, left out of the statistics."""
    replications: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1

    @model_validator(mode="after")
    def _bounded(self) -> Run:
        if self.requests is None and self.duration_s is None:
            raise ValueError("give requests or duration_s")
        if self.requests is not None and self.warmup_requests >= self.requests:
            raise ValueError(
                f"warmup_requests is {self.warmup_requests}, must be smaller than requests ({self.requests})"
            )
        return self


class Scenario(_Part):
    """One question to the simulator."""

    name: str = ""
    description: str = ""
    device: DeviceChoice
    networks: tuple[InlineNetwork, ...] = ()
    """Networks written out here; all others come from the catalogue."""
    workload: Workload
    policy: PolicyChoice
    run: Run
    sweep: dict[str, list[Any]] = {}
    """Grid over dotted paths; the last one varies fastest."""

    @model_validator(mode="after")
    def _distinct(self) -> Scenario:
        seen: set[str] = set()
        for network in self.networks:
            if network.name in seen:
                raise ValueError(f"networks: {network.name!r} is there twice")
            seen.add(network.name)
        return self


def normal(data: Mapping[str, Any]) -> dict[str, Any]:
    """The scenario's data with its short forms written out; wrong data passes through to be reported."""
    result = dict(data)
    if isinstance(result.get("device"), str):
        result["device"] = {"board": result["device"]}
    if isinstance(result.get("device"), Mapping):
        result["device"] = {"runtime": {}, "memory": {}, "storage": {}, **result["device"]}
    if isinstance(result.get("policy"), str):
        result["policy"] = {"name": result["policy"]}
    if isinstance(result.get("run"), Mapping):
        result["run"] = dict(result["run"])
    return result


def json_schema() -> dict[str, Any]:
    """The JSON Schema of scenario files, short forms included."""
    schema = Scenario.model_json_schema(by_alias=False)
    properties = schema["properties"]
    for key in ("device", "policy"):
        properties[key] = {"anyOf": [{"type": "string", "minLength": 1}, properties[key]]}
    for part, name, other in (("InlineLayer", "weight_bytes", "bytes"), ("Run", "requests", "count")):
        keys = schema["$defs"][part]["properties"]
        keys[other] = {**keys[name], "description": f"The same as {name}."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "edgesched scenario",
    }

"""This machine as a device, as far as it tells without being measured."""

from __future__ import annotations

from pathlib import Path

from ...devices.model import Device, Memory, OperatingPoint, Processor, Runtime, Storage
from ...policies.contract import Worker
from ..machine import host
from ..machine.pins import cpus_of

_ROOT = Path("/")


class HereError(ValueError):
    """This machine does not have what was asked for, or does not tell what a device needs."""


def processors(root: Path = _ROOT) -> tuple[Processor, ...]:
    """One per cluster, in the order in which a replay takes them; frequencies where they are told."""
    clusters = host.clusters(root)
    return tuple(
        Processor(
            name="cpu" if len(clusters) == 1 else f"cpu{cluster.cpus[0]}",
            model=cluster.core or "",
            cores=len(cluster.cpus),
            operating_points=_operating_points(cluster),
        )
        for cluster in clusters
    )


def _operating_points(cluster: host.Cluster) -> tuple[OperatingPoint, ...]:
    """The lowest and the highest frequency."""
    told = {hz for hz in (cluster.min_hz, cluster.max_hz) if hz is not None}
    return tuple(OperatingPoint(frequency_hz=hz) for hz in sorted(told))


def memory(root: Path = _ROOT) -> Memory:
    """All of it; what is not free now is the system's. Raises HereError where the kernel does not tell."""
    told = host.facts(root)["memory"]
    total, available = told["total_bytes"], told["available_bytes"]
    if total is None or available is None:
        raise HereError(f"{root / 'proc/meminfo'}: does not tell MemTotal and MemAvailable")
    return Memory(total_bytes=total, reserved_by_system_bytes=total - available)


def device(name: str, threads: int = 1) -> Device:
    """This machine with the runtime of a replay; nothing on it costs anything yet."""
    return Device(
        name=name,
        processors=processors(),
        memory=memory(),
        storage=Storage(reads="direct"),
        runtime=Runtime(
            threads=threads, weights_lifetime="layer", outputs_lifetime="arena", load_copies=False
        ),
    )


def worker_cpus(threads: int, workers: int = 1) -> list[list[int]]:
    """The processors to which a replay pins ``workers`` workers of its first processor.

    Raises HereError where that has fewer cores than one worker has threads.
    """
    found = Device(
        name="here",
        processors=processors(),
        memory=Memory(total_bytes=0),
        runtime=Runtime(threads=threads),
    )
    first = found.processors[0]
    pins = cpus_of(found, [Worker(f"worker {index}", first.name) for index in range(workers)])
    if len(pins[0]) < threads:
        raise HereError(f"{threads} threads asked for, {first.name} has {len(pins[0])} cores for them here")
    return pins

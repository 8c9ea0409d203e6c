"""Drives the engine by hand for tests: networks from a few numbers, a plan from a list of images."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgesched.devices.cost import NetworkCost, network_cost
from edgesched.devices.model import Device, Memory, Processor, Runtime
from edgesched.policies import registry
from edgesched.policies.graph import NetworkGraph
from edgesched.runs.records import Records
from edgesched.runs.tasks import Trace
from edgesched.sim.engine import Engine
from edgesched.sim.overheads import NoiseSource, OverheadEngine
from edgesched.workloads.network import Layer, Network
from edgesched.workloads.workload import RequestPlan

IDEAL = Runtime()
VERSION_A = Runtime(version="A")


@dataclass(frozen=True)
class Net:
    """A chain of layers; ``conv`` leading ones are convolutional (None: all)."""

    name: str
    load_s: tuple[float, ...] = (1.0,)
    execute_s: tuple[float, ...] = (1.0,)
    init_s: float = 1.0
    weight_bytes: tuple[int, ...] | None = None
    output_bytes: int = 0
    workspace_bytes: int = 0
    conv: int | None = None
    copies: int = 0
    expected_s: float | None = None
    reservation_bytes: int | None = None

    def cost(self, runtime: Runtime) -> NetworkCost:
        weights = self.weight_bytes or (0,) * len(self.load_s)
        layers = tuple(
            Layer(
                f"layer {index}",
                "inline",
                inputs=(index - 1,) if index else (),
                weight_bytes=weight,
                output_bytes=self.output_bytes,
                workspace_bytes=self.workspace_bytes,
            )
            for index, weight in enumerate(weights)
        )
        network = Network(
            self.name,
            layers,
            conv_layers=len(layers) if self.conv is None else self.conv,
            load_copies=self.copies,
        )
        return network_cost(
            network,
            runtime,
            init_s=self.init_s,
            load_s=self.load_s,
            execute_s=self.execute_s,
            expected_s=self.expected_s,
            reservation_bytes=self.reservation_bytes,
        )


Image = tuple[float, Sequence[Net]]
"""Seconds since the image before, and the networks it needs."""


@dataclass(frozen=True)
class Step:
    """One executed task."""

    start_s: float
    end_s: float
    worker: int
    job: int
    task: int
    name: str
    """Such as "a L0": network; I, L or E; layer (none where it is the whole network)."""


class Played:
    """A finished run (or one that stopped because something did not fit)."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.records = engine.records
        trace = engine.trace
        assert trace is not None
        self.trace = trace
        self.graphs: list[NetworkGraph] = []
        self.arrival_s: list[float] = []
        self.request_of: list[int] = []
        for row, kind in enumerate(self.records.composition):
            graphs = engine.compositions[kind].graphs
            self.graphs += graphs
            self.arrival_s += [self.records.arrival_s[row]] * len(graphs)
            self.request_of += [row] * len(graphs)
        self.steps = [
            Step(start, end, worker, job, task, self._name(job, task))
            for start, end, worker, job, task in zip(
                trace.start_s, trace.end_s, trace.worker, trace.job, trace.task, strict=True
            )
        ]
        self.steps.sort(key=lambda step: (step.start_s, step.end_s, step.worker))

    def _name(self, job: int, index: int) -> str:
        graph = self.graphs[job]
        task = graph.tasks[index]
        return f"{graph.network.name} {task.kind.name[0]}{task.layer if task.layer >= 0 else ''}"

    @property
    def order(self) -> str:
        """All tasks in order of their start, as one line."""
        return ", ".join(step.name for step in self.steps)

    def story(self, worker: int = 0) -> str:
        """What one worker did when, as one line."""
        mine = [step for step in self.steps if step.worker == worker]
        return ", ".join(f"{step.name} {step.start_s:g}-{step.end_s:g}" for step in mine)

    @property
    def finish_s(self) -> list[float]:
        """Per job."""
        return list(self.records.job_finish_s)


def make_engine(
    policy: str,
    images: Sequence[Image],
    *,
    runtime: Runtime = IDEAL,
    limit_bytes: int | None = None,
    base_bytes: int = 0,
    deadline_s: Any = None,
    noise: NoiseSource | None = None,
    overheads: bool = False,
    **arguments: Any,
) -> Engine:
    """The engine before its run; ``overheads``: the one with overheads even if the runtime has none."""
    device = Device(
        name="bench",
        processors=(Processor(name="cpu"),),
        memory=Memory(total_bytes=1 << 40, limit_bytes=limit_bytes, base_bytes=base_bytes),
        runtime=runtime,
    )
    costs = {net: net.cost(runtime) for _, nets in images for net in nets}
    kinds = list(dict.fromkeys(tuple(nets) for _, nets in images))
    plan = RequestPlan(
        streams=("images",),
        deadline_s=[deadline_s],
        gap_s=array("d", [gap for gap, _ in images]),
        stream=array("i", [0] * len(images)),
        composition=array("i", [kinds.index(tuple(nets)) for _, nets in images]),
    )
    delays = (runtime.dispatch_period_s, runtime.worker_pause_s, runtime.worker_poll_s, runtime.submission_s)
    with_overheads = overheads or any(delays) or bool(runtime.slowdown) or noise is not None
    common = (
        registry.make(policy, arguments),
        device,
        plan,
        lambda scheduler: [scheduler.composition([costs[net] for net in nets]) for nets in kinds],
        Records(),
        Trace(),
    )
    return OverheadEngine(*common, noise=noise) if with_overheads else Engine(*common)


def play(policy: str, images: Sequence[Image], **options: Any) -> Played:
    """Run to the end."""
    engine = make_engine(policy, images, **options)
    engine.run()
    return Played(engine)

"""A device: processors, memory, storage and the runtime that drives them.

Every class is a pydantic model, so a board is a YAML file that is checked where it is read. Seconds and bytes
throughout; hertz for frequencies, watts for power.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, le=1 << 50)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MIB = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OperatingPoint(_Part):
    """One frequency of a processor, with its power where known."""

    frequency_hz: Rate
    idle_w: Annotated[float, Field(ge=0)] | None = None
    busy_w: Annotated[float, Field(ge=0)] | None = None


class Processor(_Part):
    """A CPU cluster, a GPU or a microcontroller core."""

    name: str
    kind: Literal["cpu", "gpu", "mcu", "npu"] = "cpu"
    model: str = ""
    cores: Annotated[int, Field(ge=1, le=4096)] = 1
    operating_points: tuple[OperatingPoint, ...] = ()


class Swap(_Part):
    """What happens when resident bytes exceed the limit: the swap device and how the pager uses it."""

    total_bytes: Bytes
    read_bytes_per_s: Rate
    """Swap-in for one faulting worker."""
    write_cost: Annotated[float, Field(ge=0, le=1000)] = 0.5
    """Device time of a written byte relative to a read one."""
    queue_gain: Annotated[float, Field(ge=1, le=1000)] = 1.0
    """Speed-up of requests that find the device busy, when several workers fault."""
    bulk_penalty: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Factor on the cost of paging for policies that load a network whole before it executes."""
    request_bytes: Annotated[int, Field(ge=4096)] = 4 * MIB
    """Traffic after which a faulting worker lets another one at the device."""
    chunk_bytes: Annotated[int, Field(ge=4096)] = MIB
    """Least unit of residency; larger is faster and coarser."""
    blob_chunks: Annotated[int, Field(ge=1, le=4096)] = 64
    """A buffer is cut into at most so many chunks."""


class Memory(_Part):
    """Main memory. ``limit_bytes`` is what the process may hold (cgroup limit, or SRAM); None: no limit."""

    total_bytes: Bytes
    limit_bytes: Annotated[int, Field(gt=0, le=1 << 50)] | None = None
    base_bytes: Bytes = 0
    """What the process holds before any network; it counts against the limit."""
    reserved_by_system_bytes: Bytes = 0
    """What the operating system keeps of ``total_bytes``; a limit above the rest changes nothing."""
    swap: Swap | None = None
    """None: what does not fit is infeasible."""

    @property
    def usable_bytes(self) -> int:
        """The smaller of the limit and what the system leaves."""
        free = self.total_bytes - self.reserved_by_system_bytes
        return free if self.limit_bytes is None else min(self.limit_bytes, free)

    @model_validator(mode="after")
    def _fits(self) -> Memory:
        if self.reserved_by_system_bytes >= self.total_bytes > 0:
            raise ValueError("reserved_by_system_bytes must be smaller than total_bytes")
        return self


class Storage(_Part):
    """Where weights are read from."""

    kind: str = ""
    read_bytes_per_s: Rate | None = None
    request_s: Seconds = 0.0
    total_bytes: Annotated[int, Field(gt=0, le=1 << 50)] | None = None
    """What the weights of all networks together may take of it; None: no limit."""
    reads: Literal["cached", "direct", "mapped", "in-place"] = "cached"
    """How weights are read: through the page cache (a profile's warm times), past it (its cold times), by
    touching a mapped file, whose pages are clean: without room they leave and are read again; or where they
    lie, in flash: nothing is loaded or resident, and executing reads them at ``read_bytes_per_s``."""
    prefetch: bool = True
    """In place: whether reading weights goes on beside computing, so that the longer of both counts; else
    one waits for the other."""
    pace_bytes_per_s: Rate | None = None
    """Loads together read at most so fast, simulated or replayed: a slower device than the one measured."""


SlowdownClass = Literal["init", "load", "execute", "compute", "memory"]
"""What a task is for others beside it: its kind, and of executions what bounds them."""


class Runtime(_Part):
    """How the inference runtime behaves; the defaults are an ideal one without overheads.

    ``version`` chooses between the two task graphs of EdgeCaffe: "B" (August 2020 on: INIT is a task, ready
    tasks ordered by id) and "A" (April 2020: networks are built at submission, ready tasks first in first
    out, the bulk mode loads every network before it executes any).
    """

    version: Literal["A", "B"] = "B"
    element_bytes: Literal[1, 2, 4] = 4
    """Bytes of a value: networks are described in float32, what they take scales by element_bytes / 4. Biases
    (one for each output channel) keep 4 bytes."""
    threads: Annotated[int, Field(ge=1, le=4096)] = 1
    """Threads that compute one task: which of a profile's rows counts where it has several."""
    dispatch_s: Seconds = 0.0
    """Handing a task to a worker and noticing its end: a part of every task's time."""
    wake_s: Seconds = 0.0
    """What a task takes beyond that on a worker that was waiting; none where one worker goes straight on."""
    dispatch_period_s: Seconds = 0.0
    """The orchestrator scans this often; a successor is invisible until the next scan. 0: at once."""
    worker_pause_s: Seconds = 0.0
    """A worker sleeps so long after each task before it asks again."""
    worker_poll_s: Seconds = 0.0
    """An idle worker asks this often; 0: whenever something changes."""
    submission_s: Seconds = 0.0
    """Time the orchestrator takes to submit one network; its tasks appear afterwards."""
    weights_lifetime: Literal["network", "layer"] = "network"
    """network: resident from INIT until the network dies (Caffe); layer: from LOAD to the layer's end."""
    outputs_lifetime: Literal["network", "liveness", "arena"] = "network"
    """network: outputs stay until the network dies; liveness: until their last consumer has executed; arena:
    they share a planned arena, there from a job's INIT until it is done (as in TFLite and in a replay)."""
    load_copies: bool = True
    """Whether loading makes the network's transient extra copies of what it loads."""
    reserved_base_bytes: Bytes = 0
    """What the counter of a policy that books memory holds back for the process (EdgeCaffe: 4.87 MB)."""
    slowdown: dict[SlowdownClass, dict[SlowdownClass, Annotated[float, Field(ge=1, le=1000)]]] = {}
    """slowdown[a][b]: factor on a task of class a while one of class b runs beside it; the excesses over 1 of
    several add up, as they share what is scarce. ``compute`` and ``memory`` tell executions apart by what
    bounds them (``cost.bound``), ``execute`` serves both; loads take turns at the storage."""
    noise: Noise | None = None


class Noise(_Part):
    """Random factor on every task's duration, mean 1, seeded; ``cv`` is its coefficient of variation."""

    distribution: Literal["lognormal", "gamma", "exponential"] = "lognormal"
    cv: Annotated[float, Field(gt=0, le=100)] = 0.05


class OpRates(_Part):
    """Time of an operation class: call_s + MACs * mac_s + bytes written and read * byte_s."""

    call_s: Seconds = 0.0
    mac_s: Seconds = 0.0
    byte_s: Seconds = 0.0


class ProcessorCost(_Part):
    """What executing costs on one processor: by rates of its own, or in proportion to the first one's."""

    execute: dict[str, OpRates] = {}
    """Its own rates per operation class, as ``Cost.execute``; none: the first processor's times."""
    gemm_scale: Rate = 1.0
    """Factor, beside the device's, on execution times of convolutions and fully-connected layers."""
    other_scale: Rate = 1.0
    """Factor, beside the device's, on execution times of all other layers."""


class Cost(_Part):
    """The cost model: a measured profile where one exists, rates fitted from profiles elsewhere."""

    profile: str | None = None
    """Name of an embedded profile, or a path to a profile file."""
    primitives: str | None = None
    """Name of an embedded primitive profile, or a path to one: what policies that plan primitives choose
    from. Without a profile or rates, a layer costs what its fastest primitive does."""
    primitive_ratios: str | None = None
    """Without ``primitives``: a primitive profile measured elsewhere (name or path), whose times relative to
    im2col are taken to hold here; None: the first that comes with edgesched."""
    gemm_scale: Rate = 1.0
    """Factor on execution times of convolutions and fully-connected layers (another BLAS, clock or build)."""
    other_scale: Rate = 1.0
    """Factor on execution times of all other layers."""
    load_scale: Rate = 1.0
    """Factor on loading times."""
    execute: dict[str, OpRates] = {}
    """Rates per operation class; the class "other" serves every class not named."""
    on: dict[str, ProcessorCost] = {}
    """Per processor what differs there from the first one; processors not named cost what the first does."""
    load_call_s: Seconds = 0.0
    load_byte_s: Seconds = 0.0
    load_byte_s_per_copy: Seconds = 0.0
    """Loading what no profile holds: call + weight bytes * (load_byte_s + copies * load_byte_s_per_copy)."""
    init_s: Seconds = 0.0
    init_byte_s: Seconds = 0.0
    """INIT: init_s + weight bytes * init_byte_s."""


class FittedConstants(_Part):
    """Constants fitted together to some rows; errors are predicted / measured - 1."""

    constants: dict[str, float]
    """Dotted path in the board: value."""
    errors: dict[str, float]
    """Row: error of the fit."""
    left_out_errors: dict[str, float] = {}
    """Row: error on it when fitted to the others."""


class Calibration(_Part):
    """Where a board's numbers come from: what was fitted to what, and what is assumed."""

    command: str
    fitted: list[FittedConstants] = []
    measured: dict[str, str] = {}
    """Dotted path: how its value was measured, and how it spread."""
    assumed: dict[str, str] = {}
    """Dotted path: why this value."""


class Device(_Part):
    """A board with its memory, storage, runtime and cost model."""

    name: str
    description: str = ""
    source: str = ""
    processors: Annotated[tuple[Processor, ...], Field(min_length=1)]
    memory: Memory
    storage: Storage = Storage()
    runtime: Runtime = Runtime()
    cost: Cost = Cost()
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _knows_its_processors(self) -> Device:
        names = [processor.name for processor in self.processors]
        for name in self.cost.on:
            if name not in names:
                raise ValueError(f"cost.on names the processor {name!r}, there are: {', '.join(names)}")
        return self

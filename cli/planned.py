"""What the commands about plans share: networks and measurements in, primitives in few letters out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import seconds, size

if TYPE_CHECKING:
    from ..devices.options import NetworkOptions, Option
    from ..policies.planning.frontier import Frontier, Point
    from ..workloads.network import Network

NETWORK_HELP = "A name of the catalogue, or a file that ends in .onnx."
MEMORY_HELP = (
    "What counts as memory: the largest workspace; all that is live at once; that and all weights; or all "
    "workspaces together."
)
PROFILE_HELP = "Measured primitives: a .csv file or a name; default: those that come with edgesched."
DEVICE_HELP = "Plan for this board instead of for a profile."
_VARIANT = re.compile(
    r"-(?:sum2d|scan|copy-[a-z]+|gemm|partition|vec-\d+|ab|abt|atb|atbt|ik|ki|chw|hwc|hcw)(?=-|$)"
)
_TILES = re.compile(r"winograd-(\d+(?:x\d+)?)-\d+(?:x\d+)?")


class Memory(StrEnum):
    """The planner's definitions of memory (``policies.planning.memory``), without loading it."""

    peak_workspace = "peak-workspace"
    peak_live = "peak-live"
    total = "total"
    no_reuse = "no-reuse"

    @property
    def words(self) -> str:
        """What it is, for people."""
        return {
            "peak-workspace": "peak workspace",
            "peak-live": "peak of all that is live",
            "total": "weights and peak of all that is live",
            "no-reuse": "sum of all workspaces",
        }[self.value]


def abbreviated(name: str) -> str:
    """A primitive without its variant: ``im2row``, ``kn2row-aa``, ``wino-2x2``."""
    return _TILES.sub(r"wino-\1", _VARIANT.sub("", name)).removeprefix("conv-")


def family(name: str) -> str:
    """The family of a primitive; "other" for one that neither the library nor the literature names."""
    from ..primitives.catalogue import LIBRARY
    from ..primitives.published import PUBLISHED

    found: Any = LIBRARY.get(name) or PUBLISHED.get(name)
    return "other" if found is None else str(found.family)


def budget_bytes(text: str | None) -> int | None:
    """Bytes of ``--budget``; None where there is none. Raises ``InputError``."""
    from ..devices.reading import InputError
    from ..devices.units import parse_bytes

    if text is None:
        return None
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise InputError(f"--budget: {error}") from error


def bytes_text(count: int) -> str:
    """A budget in the unit in which it is round: 2 MB, 512 KiB."""
    from ..sim.plots.style import bytes_label

    return bytes_label(count)


def network_of(name: str) -> Network:
    """The network of that name or in that ONNX file. Raises what the command line shows as a message."""
    from ..workloads import catalogue
    from .show import imported

    return imported(Path(name)) if name.lower().endswith(".onnx") else catalogue.build(name)


def options_of(
    networks: Iterable[str], profile: str | None, device: str | None
) -> tuple[str, list[NetworkOptions]]:
    """Where the measurements come from, and what each network's layers may be computed with there.

    Raises ``InputError``, ``ProfileError``, ``BoardError``, ``ImplementingError`` and
    ``UnknownNetworkError``.
    """
    from ..devices import implementing
    from ..devices.reading import InputError
    from ..traces.primitives import primitive_profile_names, read_primitives

    if profile is not None and device is not None:
        raise InputError("--profile and --device: give one of them")
    built = [network_of(name) for name in networks]
    if device is not None:
        from ..devices import boards

        board = boards.load(device)
        return device, [implementing.network_options(network, board) for network in built]
    if profile is None:
        embedded = primitive_profile_names()
        if not embedded:
            raise InputError("no primitive profile comes with this edgesched; give --profile or --device")
        profile = embedded[0]
    rows = read_primitives(Path(profile) if profile.lower().endswith(".csv") else profile)
    return profile, [implementing.options_from_profile(network, rows) for network in built]


def chosen(options: NetworkOptions, point: Point) -> list[Option]:
    """The option of every layer under a plan."""
    return [own[at] for own, at in zip(options.layers, point.choice, strict=True)]


def convolutions(options: NetworkOptions) -> list[int]:
    """Indices of the network's convolutions."""
    from ..primitives.shape import CONVOLUTIONS

    return [at for at, layer in enumerate(options.network.layers) if layer.op in CONVOLUTIONS]


def amounts(point: Point) -> str:
    """``44.3 ms with 1.701 MiB``."""
    return f"{seconds(point.time_s)} with {size(point.memory_bytes)}"


def point_record(point: Point) -> dict[str, Any]:
    """A point as plain data."""
    return {"memory_bytes": point.memory_bytes, "time_s": point.time_s}


def points_record(frontier: Frontier) -> list[dict[str, Any]]:
    """All points as plain data."""
    return [point_record(point) for point in frontier.points]


def plan_record(options: NetworkOptions, point: Point) -> dict[str, Any]:
    """A plan as plain data: layers, and the memory by every definition."""
    from ..policies.planning.memory import MEMORIES
    from ..policies.planning.pricing import price
    from ..policies.planning.transforms import PICO

    found = price(options, point.choice)
    layers = []
    for index, (layer, own, cost) in enumerate(
        zip(options.network.layers, chosen(options, point), found.layers, strict=True)
    ):
        layers.append(
            {
                "layer": layer.name,
                "op": layer.op,
                "primitive": own.primitive,
                "in_layout": own.in_layout,
                "out_layout": own.out_layout,
                "transforms": transforms(options, point, index),
                "execute_s": own.execute_s,
                "transform_s": cost.transform_ps / PICO,
                "workspace_bytes": own.workspace_bytes,
                "weight_bytes": own.weight_bytes,
                "peak_live_bytes": cost.peak_bytes,
            }
        )
    return {
        **point_record(point),
        "memory": {memory: found.memory_bytes(memory) for memory in MEMORIES},
        "layers": layers,
    }


def transforms(options: NetworkOptions, point: Point, index: int) -> list[str]:
    """The transforms of a layer's inputs, ``chw-to-hwc``, whether or not a third layout lies between."""
    from ..primitives.layouts import transform_name

    own = chosen(options, point)
    reads = own[index].in_layout
    sources: Sequence[int] = options.network.layers[index].inputs
    return [
        transform_name(own[source].out_layout, reads) for source in sources if own[source].out_layout != reads
    ]

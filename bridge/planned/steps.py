"""A plan as what is to be done layer by layer, and where everything lies meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...devices.options import Choice, NetworkOptions, Option
from ...devices.relayout import Path, paths
from ...primitives.catalogue import primitive as convolution
from ...primitives.layers import catalogue as layers
from ...primitives.layers.layer import LayerPrimitive, LayerShape, layer_shape
from ...primitives.layouts import Layout
from ...primitives.primitive import Primitive
from ...primitives.shape import CONVOLUTIONS, ConvShape, conv_shape
from ...workloads.network import Network
from ..bundles.arena import Span, place

INPUT = "input-chw"


class PlannedError(ValueError):
    """A plan cannot be executed here; the message names network and layer and says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of a plan."""

    primitive: Primitive | LayerPrimitive
    shape: ConvShape | LayerShape
    stored: tuple[Layout, ...]
    """Layout in which each input lies."""
    transforms: tuple[Path, ...]
    """How each input gets into the layout that the primitive reads."""
    workspace_bytes: int
    scratch_bytes: int
    """Transformed inputs, while the layer executes."""
    arena_bytes: int
    """The most of scratch, workspace and layouts between at one time."""


def steps_of(options: NetworkOptions, choice: Choice) -> tuple[Step, ...]:
    """What the plan that takes option ``choice[i]`` for layer i does. Raises ``PlannedError``."""
    network = options.network
    if len(choice) != len(network.layers):
        raise PlannedError(
            f"{network.name}: the plan has {len(choice)} layers, the network {len(network.layers)}"
        )
    chosen = [own[at] for own, at in zip(options.layers, choice, strict=True)]
    steps = tuple(_step(options, index, chosen) for index in range(len(chosen)))
    _check_in_place(network, chosen)
    return steps


def _step(options: NetworkOptions, index: int, chosen: Sequence[Option]) -> Step:
    network = options.network
    layer, option = network.layers[index], chosen[index]
    if layer.output_shape[:1] != (1,):
        raise PlannedError(
            f"{network.name}: layer {layer.name!r} has the shape {layer.output_shape}; "
            f"primitives compute one image, the batch must be 1"
        )
    primitive: Primitive | LayerPrimitive
    shape: ConvShape | LayerShape
    try:
        if layer.op in CONVOLUTIONS:
            primitive, shape = convolution(option.primitive), conv_shape(network, index)
            primitive.check(shape)
            workspace = primitive.workspace_bytes(shape)
        else:
            # The image comes as it comes, whatever a table calls that.
            name = INPUT if layer.op == "input" else option.primitive
            primitive, shape = layers.primitive(name), layer_shape(network, index)
            primitive.check(shape)
            workspace = primitive.workspace_bytes(shape)
    except ValueError as error:
        raise PlannedError(f"{network.name}: layer {layer.name!r}: {error}") from None
    stored = tuple(chosen[source].out_layout for source in layer.inputs)
    walked: list[Path] = []
    copies = most = 0
    for source, layout in zip(layer.inputs, stored, strict=True):
        known = paths(options.transform_s[source])
        if (layout, primitive.in_layout) not in known:
            raise PlannedError(
                f"{network.name}: layer {layer.name!r} reads {primitive.in_layout}, and there is no "
                f"transform of {network.layers[source].name!r} from {layout}"
            )
        path = known[layout, primitive.in_layout]
        size = options.tensor_bytes[source]
        most = max(most, copies + path.walking_copies * size)
        copies += path.copies * size
        walked.append(path)
    most = max(most, copies + workspace)
    return Step(primitive, shape, stored, tuple(walked), workspace, copies, most)


def _check_in_place(network: Network, chosen: Sequence[Option]) -> None:
    """A layer that writes over its input in another layout must be that input's only reader."""
    for index, layer in enumerate(network.layers):
        if network.buffer_of[index] == index:
            continue
        source = layer.inputs[0]
        if chosen[index].out_layout != chosen[source].out_layout and len(network.consumers[source]) > 1:
            raise PlannedError(
                f"{network.name}: layer {layer.name!r} works in place in {chosen[index].out_layout}, but "
                f"others read {network.layers[source].name!r} in {chosen[source].out_layout}"
            )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job's outputs and each layer's scratch and workspace lie in one area."""

    outputs: tuple[int, ...]
    """Per layer the offset of its output; that of its producer where it works in place."""
    arenas: tuple[int, ...]
    """Per layer the offset of its arena."""
    area_bytes: int


def placed(network: Network, steps: Sequence[Step]) -> Placement:
    """A static plan: what is never needed at the same time may share its bytes."""
    count = len(network.layers)
    spans = [
        Span(layer.output_bytes if network.buffer_of[index] == index else 0, index, network.last_use[index])
        for index, layer in enumerate(network.layers)
    ]
    spans += [Span(step.arena_bytes, index, index) for index, step in enumerate(steps)]
    offsets, size_bytes = place(spans)
    outputs = tuple(offsets[owner] for owner in network.buffer_of)
    return Placement(outputs, offsets[count:], size_bytes)

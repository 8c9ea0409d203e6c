"""What a primitive must know of a layer: the shape of a convolution, and a key that equal layers share."""

from __future__ import annotations

from dataclasses import dataclass

from ..workloads.network import Network

CONVOLUTIONS = frozenset({"convolution", "depthwise"})
"""Operations that the primitives of ``convolutions/`` compute; all others are those of ``layers/``."""


class ShapeError(ValueError):
    """A layer is not one that primitives compute; the message names network and layer and says why."""


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A square convolution of one image, float32.

    C ``channels`` of H x W, M ``kernels`` of K x K, stride S, P zeros of padding on each side, G ``groups``.
    """

    channels: int
    height: int
    width: int
    kernels: int
    kernel: int
    stride: int = 1
    pad: int = 0
    groups: int = 1

    def __post_init__(self) -> None:
        least = min(
            self.channels, self.height, self.width, self.kernels, self.kernel, self.stride, self.groups
        )
        if least < 1 or self.pad < 0:
            raise ShapeError(f"convolution {self.key}: numbers must be at least 1, the padding at least 0")
        if self.channels % self.groups or self.kernels % self.groups:
            raise ShapeError(f"convolution {self.key}: the groups must divide channels and kernels")
        if min(self.out_height, self.out_width) < 1:
            raise ShapeError(f"convolution {self.key}: the kernel is larger than the padded input")

    @property
    def out_height(self) -> int:
        """Ho = floor((H + 2 P - K) / S) + 1."""
        return (self.height + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def out_width(self) -> int:
        """Wo = floor((W + 2 P - K) / S) + 1."""
        return (self.width + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def depthwise(self) -> bool:
        """Whether every channel is a group of its own."""
        return self.groups == self.channels > 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the direct algorithm: M (C / G) K^2 Ho Wo."""
        per_output = self.channels // self.groups * self.kernel**2
        return self.kernels * per_output * self.out_height * self.out_width

    @property
    def weight_elements(self) -> int:
        """M (C / G) K^2; the bias is not among them."""
        return self.kernels * (self.channels // self.groups) * self.kernel**2

    @property
    def group(self) -> ConvShape:
        """The shape of one group."""
        return ConvShape(
            self.channels // self.groups,
            self.height,
            self.width,
            self.kernels // self.groups,
            self.kernel,
            self.stride,
            self.pad,
        )

    @property
    def key(self) -> str:
        """The shape in one word per number: ``64x56x56 m128 k3 s1 p1 g1`` (C x H x W)."""
        return (
            f"{self.channels}x{self.height}x{self.width} m{self.kernels} k{self.kernel} s{self.stride} "
            f"p{self.pad} g{self.groups}"
        )


def conv_shape(network: Network, index: int) -> ConvShape:
    """The shape of a convolution of a network. Raises ``ShapeError`` for what is not square."""
    layer = network.layers[index]
    attributes = layer.attributes
    source = network.layers[layer.inputs[0]].output_shape if layer.inputs else ()
    if layer.op not in CONVOLUTIONS or len(source) != 4:
        raise ShapeError(f"network {network.name!r}: layer {layer.name!r} ({layer.op}) is no convolution")
    if attributes["kernel_h"] != attributes["kernel_w"]:
        raise ShapeError(
            f"network {network.name!r}: layer {layer.name!r} has a kernel of {attributes['kernel_h']} x "
            f"{attributes['kernel_w']}; primitives compute square ones"
        )
    shape = ConvShape(
        channels=source[1],
        height=source[2],
        width=source[3],
        kernels=layer.output_shape[1],
        kernel=attributes["kernel_h"],
        stride=attributes["stride"],
        pad=attributes["pad"],
        groups=attributes.get("groups", 1),
    )
    if (shape.out_height, shape.out_width) != layer.output_shape[2:]:
        raise ShapeError(
            f"network {network.name!r}: layer {layer.name!r} writes {layer.output_shape[2:]}, its shape "
            f"gives {(shape.out_height, shape.out_width)}"
        )
    return shape


def layer_key(network: Network, index: int) -> str:
    """A text that all layers share which compute the same: operation, shapes and attributes.

    ``convolution 64x56x56 m128 k3 s1 p1 g1``; ``pooling 64x112x112 -> 64x56x56 k3 s2 p1 average0``;
    ``concat 64x28x28 + 32x28x28``. The batch is not part of it: primitives compute one image.
    """
    layer = network.layers[index]
    if layer.op in CONVOLUTIONS:
        return f"{layer.op} {conv_shape(network, index).key}"
    sources = [network.layers[source].output_shape[1:] for source in layer.inputs] or [layer.output_shape[1:]]
    text = f"{layer.op} {' + '.join(sides(shape) for shape in sources)}"
    if layer.op == "pooling":
        a = layer.attributes
        window = f"k{a['kernel_h']} s{a['stride']} p{a['pad']} average{a.get('average', 0)}"
        return f"{text} -> {sides(layer.output_shape[1:])} {window}"
    if layer.op == "lrn":
        return f"{text} n{layer.attributes.get('local_size', 5)}"
    if layer.op in ("fully-connected", "reshape", "flatten"):
        return f"{text} -> {sides(layer.output_shape[1:])}"
    return text


def tensor_key(shape: tuple[int, ...]) -> str:
    """Key of a transform of a tensor between layouts; ``shape`` without the batch."""
    return f"transform {sides(shape)}"


def sides(shape: tuple[int, ...]) -> str:
    """``64x56x56``."""
    return "x".join(str(side) for side in shape)

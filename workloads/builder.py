"""Describe a network layer by layer; shapes, bytes and multiply-accumulates follow.

>>> graph = GraphBuilder("tiny")
>>> x = graph.input("data", (1, 3, 32, 32)).conv("conv", 8, 3, pad=1).relu("relu").pool("pool", 2, stride=2)
>>> x.shape
(1, 8, 16, 16)
>>> graph.build().macs
221184

Formulas (N batch, C channels, g groups, k kernel side, M output channels, H x W output size, 4 bytes a
value):

- convolution: weights M (C/g) k^2 + M; macs N M H W (C/g) k^2; im2col buffer C k^2 H W of one image (all
  groups, as Caffe's ``base_conv_layer`` has it), none for a 1x1 kernel with stride 1 and no padding;
- fully-connected: weights M F + M and macs N M F for F input features;
- other layers count no macs (their cost is bytes).

With ``caffe=True`` the buffers that Caffe adds are counted in ``scratch_bytes`` (the bias multipliers: H W
values for a convolution, N for a fully-connected layer; the index mask of max pooling; the scale of LRN),
pooling rounds up, and batch normalisation is Caffe's pair of BatchNorm (mean, variance, one factor) and
Scale. They agree with every row of EdgeCaffe's networks in EdgeCaffe's data set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .network import FLOAT32_BYTES, Layer, Network, shape_bytes

IN_PLACE_OPS = frozenset({"relu", "dropout", "batch-norm", "scale"})
"""Operations that may overwrite their input; a ``split`` writes nothing and shares it."""


def convolved_size(size: int, kernel: int, stride: int = 1, pad: int = 0) -> int:
    """Output side of a convolution, rounded down; below 1 where the kernel does not fit."""
    return (size + 2 * pad - kernel) // stride + 1


def pooled_size(size: int, kernel: int, stride: int = 1, pad: int = 0, *, ceil: bool = False) -> int:
    """Output side of a pooling, rounded down, or up with ``ceil``.

    Rounded up, a last window that would start beyond the input and its left padding is dropped (Caffe's
    ``pooling_layer.cpp``; PyTorch's ``ceil_mode`` has the same rule).
    """
    if not ceil:
        return convolved_size(size, kernel, stride, pad)
    out = math.ceil((size + 2 * pad - kernel) / stride) + 1
    return out - 1 if (out - 1) * stride >= size + pad else out


def im2col_bytes(
    in_channels: int,
    kernel: Sequence[int],
    out_size: Sequence[int],
    *,
    pointwise: bool,
    element_bytes: float = FLOAT32_BYTES,
) -> int:
    """Bytes of the im2col buffer of one image, all groups together.

    ``kernel`` and ``out_size`` are the spatial sides (any rank). ``pointwise``: kernel 1, stride 1, no
    padding; then the input itself is the matrix and the buffer is not needed.
    """
    if pointwise:
        return 0
    return math.ceil(in_channels * math.prod(kernel) * math.prod(out_size) * element_bytes)


class GraphBuilder:
    """Collects layers; start with :meth:`input`, chain on the tensors, end with :meth:`build`."""

    def __init__(self, name: str, *, caffe: bool = False) -> None:
        self.name = name
        self.caffe = caffe
        self._layers: list[Layer] = []

    def input(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Add an input of the given shape, batch first. Raises ValueError for a side below 1."""
        if not shape or min(shape) < 1:
            raise ValueError(
                f"network {self.name!r}: input {name!r} has shape {shape}; sides must be at least 1"
            )
        return self.append(name, "input", (), shape)

    def concat(self, name: str, tensors: Sequence[Tensor]) -> Tensor:
        """Join along the channels; the other sides must be equal."""
        if not tensors:
            raise ValueError(f"network {self.name!r}: concat {name!r} needs at least one tensor")
        first = tensors[0].shape
        for tensor in tensors:
            if tensor.shape[:1] + tensor.shape[2:] != first[:1] + first[2:]:
                raise ValueError(
                    f"network {self.name!r}: concat {name!r} joins shapes {[t.shape for t in tensors]}; "
                    f"only the channels may differ"
                )
        channels = sum(tensor.shape[1] for tensor in tensors)
        return self.append(name, "concat", tensors, (first[0], channels, *first[2:]))

    def append(
        self,
        name: str,
        op: str,
        sources: Sequence[Tensor],
        shape: tuple[int, ...],
        *,
        parameters: int = 0,
        macs: int = 0,
        workspace_bytes: int = 0,
        scratch_values: int = 0,
        in_place: bool = False,
        attributes: Mapping[str, int] | None = None,
    ) -> Tensor:
        """Add a layer of any operation; ``parameters`` and ``scratch_values`` count float32 values."""
        if any(source.graph is not self for source in sources):
            raise ValueError(f"network {self.name!r}: layer {name!r} reads a tensor of another network")
        if min(shape, default=1) < 1:
            raise ValueError(
                f"network {self.name!r}: layer {name!r} would have output {shape} from inputs "
                f"{[s.shape for s in sources]}; the input of the network is too small"
            )
        self._layers.append(
            Layer(
                name=name,
                op=op,
                inputs=tuple(source.index for source in sources),
                output_shape=shape,
                macs=macs,
                weight_bytes=parameters * FLOAT32_BYTES,
                output_bytes=0 if in_place else shape_bytes(shape),
                workspace_bytes=workspace_bytes,
                scratch_bytes=scratch_values * FLOAT32_BYTES if self.caffe else 0,
                attributes=dict(attributes or {}),
            )
        )
        return Tensor(self, len(self._layers) - 1, shape)

    def build(
        self, *, conv_layers: int | None = None, load_copies: int = 1, description: str = "", source: str = ""
    ) -> Network:
        """The network.

        ``conv_layers`` defaults to the layers before the first fully-connected one (all where there is none).
        Raises ValueError where a layer overwrites a buffer that another layer reads too.
        """
        if conv_layers is None:
            conv_layers = leading_conv_layers(self._layers)
        network = Network(
            name=self.name,
            layers=tuple(self._layers),
            input_shape=self._layers[0].output_shape if self._layers else (),
            conv_layers=conv_layers,
            load_copies=load_copies,
            description=description,
            source=source,
        )
        for index, layer in enumerate(network.layers):
            if layer.op in IN_PLACE_OPS and layer.output_bytes == 0:
                readers = network.consumers[layer.inputs[0]]
                if readers != (index,):
                    names = [network.layers[r].name for r in readers if r != index]
                    raise ValueError(
                        f"network {self.name!r}: layer {layer.name!r} works in place on what {names} read too"
                    )
        return network


@dataclass(frozen=True, eq=False)
class Tensor:
    """The output of a layer; each method adds a layer that reads it and returns that layer's output."""

    graph: GraphBuilder
    index: int
    shape: tuple[int, ...]

    def conv(
        self,
        name: str,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> Tensor:
        """Square convolution; ``depthwise`` where every channel is its own group."""
        batch, channels, height, width = self._image(name)
        if channels % groups or out_channels % groups:
            raise ValueError(
                f"network {self.graph.name!r}: convolution {name!r} has {groups} groups that must divide its "
                f"{channels} input and {out_channels} output channels"
            )
        out_h, out_w = (convolved_size(side, kernel, stride, pad) for side in (height, width))
        filter_values = channels // groups * kernel * kernel
        return self.graph.append(
            name,
            "depthwise" if groups == channels > 1 else "convolution",
            (self,),
            (batch, out_channels, out_h, out_w),
            parameters=out_channels * filter_values + (out_channels if bias else 0),
            macs=batch * out_channels * out_h * out_w * filter_values,
            workspace_bytes=im2col_bytes(
                channels, (kernel, kernel), (out_h, out_w), pointwise=kernel == 1 and stride == 1 and pad == 0
            ),
            scratch_values=out_h * out_w if bias else 0,
            attributes=_window(kernel, stride, pad) | {"groups": groups, "in_channels": channels},
        )

    def depthwise(
        self, name: str, kernel: int, *, stride: int = 1, pad: int = 0, bias: bool = True
    ) -> Tensor:
        """One filter per channel."""
        channels = self._image(name)[1]
        return self.conv(name, channels, kernel, stride=stride, pad=pad, groups=channels, bias=bias)

    def fc(self, name: str, out_features: int, *, bias: bool = True) -> Tensor:
        """Fully-connected layer on everything but the batch (flattened without a copy)."""
        batch, features = self.shape[0], math.prod(self.shape[1:])
        return self.graph.append(
            name,
            "fully-connected",
            (self,),
            (batch, out_features),
            parameters=out_features * features + (out_features if bias else 0),
            macs=batch * out_features * features,
            scratch_values=batch if bias else 0,
            attributes={"in_features": features},
        )

    def pool(
        self,
        name: str,
        kernel: int,
        *,
        stride: int = 1,
        pad: int = 0,
        average: bool = False,
        ceil: bool | None = None,
    ) -> Tensor:
        """Max or average pooling; ``ceil`` rounds the size up, the default under Caffe's rules."""
        batch, channels, height, width = self._image(name)
        up = self.graph.caffe if ceil is None else ceil
        out_h, out_w = (pooled_size(side, kernel, stride, pad, ceil=up) for side in (height, width))
        shape = (batch, channels, out_h, out_w)
        return self.graph.append(
            name,
            "pooling",
            (self,),
            shape,
            scratch_values=0 if average else math.prod(shape),
            attributes=_window(kernel, stride, pad) | {"in_channels": channels, "average": int(average)},
        )

    def global_average_pool(self, name: str) -> Tensor:
        """The mean over each whole channel: (N, C, 1, 1)."""
        batch, channels, height, width = self._image(name)
        window = {"kernel_h": height, "kernel_w": width, "stride": 1, "pad": 0}
        return self.graph.append(
            name,
            "pooling",
            (self,),
            (batch, channels, 1, 1),
            attributes=window | {"in_channels": channels, "average": 1},
        )

    def lrn(self, name: str, *, size: int = 5) -> Tensor:
        """Local response normalisation across ``size`` channels."""
        values = math.prod(self.shape)
        return self.graph.append(
            name, "lrn", (self,), self.shape, scratch_values=values, attributes={"local_size": size}
        )

    def relu(self, name: str) -> Tensor:
        """Rectifier of any kind (leaky, capped at 6), in place."""
        return self.graph.append(name, "relu", (self,), self.shape, in_place=True)

    def dropout(self, name: str) -> Tensor:
        """Does nothing at inference, in place."""
        return self.graph.append(name, "dropout", (self,), self.shape, in_place=True)

    def batch_norm(self, name: str, *, in_place: bool = True) -> Tensor:
        """Batch normalisation of C channels.

        Weights: scale, shift, mean and variance (4 C); under Caffe's rules mean, variance and one factor (2 C
        + 1), to be followed by :meth:`scale`.
        """
        channels = self.shape[1]
        parameters = 2 * channels + 1 if self.graph.caffe else 4 * channels
        return self.graph.append(
            name, "batch-norm", (self,), self.shape, parameters=parameters, in_place=in_place
        )

    def scale(self, name: str, *, in_place: bool = True) -> Tensor:
        """A factor and a shift for every channel (2 C weights)."""
        return self.graph.append(
            name, "scale", (self,), self.shape, parameters=2 * self.shape[1], in_place=in_place
        )

    def softmax(self, name: str) -> Tensor:
        """Softmax over the channels."""
        return self.graph.append(name, "softmax", (self,), self.shape)

    def add(self, name: str, other: Tensor) -> Tensor:
        """Sum of two tensors of the same shape."""
        if self.shape != other.shape:
            raise ValueError(
                f"network {self.graph.name!r}: add {name!r} needs one shape, got {self.shape}, {other.shape}"
            )
        return self.graph.append(name, "add", (self, other), self.shape)

    def split(self) -> Tensor:
        """The layer that Caffe inserts where an output has several readers; it shares the buffer."""
        blob = self.graph._layers[self.index].name
        return self.graph.append(f"{blob}_{blob}_0_split", "split", (self,), self.shape, in_place=True)

    def _image(self, name: str) -> tuple[int, int, int, int]:
        if len(self.shape) != 4:
            raise ValueError(
                f"network {self.graph.name!r}: layer {name!r} needs input (batch, channels, height, width), "
                f"not {self.shape}"
            )
        batch, channels, height, width = self.shape
        return batch, channels, height, width


def leading_conv_layers(layers: Sequence[Layer]) -> int:
    """How many layers come before the first fully-connected one (DeepEye's convolutional part)."""
    return next((i for i, layer in enumerate(layers) if layer.op == "fully-connected"), len(layers))


def _window(kernel: int, stride: int, pad: int) -> dict[str, int]:
    return {"kernel_h": kernel, "kernel_w": kernel, "stride": stride, "pad": pad}

"""Write a network of the catalogue as an ONNX model with random weights: its cost does not depend on them.

Every layer becomes one node with the layer's name, and its output is a tensor of that name. Exceptions:

- an ``input`` is an input of the graph; what no layer reads is an output;
- ``dropout`` and ``split`` do nothing at inference: their readers read what they read. Only where one is the
  network's result it is an Identity;
- a fully-connected layer that reads an image has a node ``<layer>/flatten`` before it, and a ``reshape`` a
  constant ``<layer>/shape``.

A layer does not say everything. Every rectifier is a plain Relu (leaky ones and ReLU6 too), local response
normalisation has ONNX's constants (alpha 0.0001, beta 0.75, bias 1), average pooling leaves padding out of
the mean, softmax goes over the channels. Where pooling rounds its size up, the far side is padded instead,
which gives the same windows.

The file holds the layer's weight bytes, but for ``batch-norm`` and ``scale``: each is a BatchNormalization of
4 C values, which onnxruntime folds into the convolution before it. ``GraphBuilder.batch_norm`` counts the
same 4 C, Caffe's pair 2 C + 1 and 2 C.

Weights are normal with variance 2 / (n m) for sums of n products: 2 / n is He et al.'s (ICCV 2015), and m is
the mean square that the layer's input is expected to have, so that values neither explode nor vanish on any
path. Expected mean squares: 1 for the network's input, 2 after weights; a rectifier halves it (not after an
add, where much is positive already), max pooling multiplies it by MAX_POOLING, an add sums, a concat
averages, nothing else changes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...traces.atomic import write_whole
from ...workloads.network import FLOAT32_BYTES, Layer, Network
from ...workloads.onnx_graph import MAX_FILE_BYTES
from .libraries import import_onnx
from .random_weights import RandomTensor, file_bytes, write_model

GENERATOR_VERSION = 1
"""Goes up with every change after which a network gives another file."""

OPSET = 17
IR_VERSION = 8

MAX_POOLING = 2.0
"""By how much max pooling raises the mean square: measured 1.3 to 3, up to 5 for a first layer on noise."""

WINDOW = frozenset({"kernel_h", "kernel_w", "stride", "pad"})
NORMALISATIONS = frozenset({"batch-norm", "scale"})
WITHOUT_NODE = frozenset({"dropout", "split"})


class GenerateError(ValueError):
    """The network cannot be written as an ONNX file; the message names the network and the layer."""


def generate(network: Network, path: Path, *, seed: int = 0) -> None:
    """Write ``network`` to ``path`` as an ONNX model with random weights (float32, fixed shapes).

    The same network and seed give the same bytes; a layer's weights depend on the seed, its name and its
    shapes, not on its place. The file is written whole or not at all, piece by piece: some megabytes of
    memory are enough. Raises GenerateError for a layer that has no counterpart in ONNX or contradicts its own
    shape or weight bytes, and for a file of 2 GiB or more; ValueError for a negative seed; ImportError
    without the onnx package.
    """
    if seed < 0:
        raise ValueError(f"the seed is {seed}, must be a whole number >= 0")
    writer = _ModelWriter(network)
    model = writer.checked_model()
    size_bytes = file_bytes(model, writer.weights)
    if size_bytes > MAX_FILE_BYTES:
        largest = max(network.layers, key=lambda layer: layer.weight_bytes)
        raise GenerateError(
            f"network {network.name!r}: the file would have {size_bytes} bytes, an ONNX file can have "
            f"{MAX_FILE_BYTES}; layer {largest.name!r} alone has {largest.weight_bytes} bytes of weights"
        )
    write_whole(path, lambda draft: write_model(draft, model, writer.weights, seed))


class _ModelWriter:
    """Collects nodes and weights, layer by layer."""

    def __init__(self, network: Network) -> None:
        self.onnx = import_onnx()
        self.network = network
        self.nodes: list[Any] = []
        self.weights: list[RandomTensor] = []
        self.tensors: list[str] = []
        """For each layer the tensor that its readers read."""
        self.mean_squares: list[float] = []
        """For each layer the expected mean square of its output."""
        self.makers: dict[str, Callable[[Layer], float]] = {
            "convolution": self.convolution,
            "depthwise": self.convolution,
            "fully-connected": self.fully_connected,
            "pooling": self.pooling,
            "batch-norm": self.normalisation,
            "scale": self.normalisation,
            "relu": self.rectifier,
            "lrn": lambda layer: self.node(layer, "LRN", size=layer.attributes.get("local_size", 5)),
            "softmax": lambda layer: self.node(layer, "Softmax", axis=1),
            "concat": lambda layer: self.node(layer, "Concat", axis=1),
            "add": lambda layer: self.node(layer, "Add") * 2,
            "flatten": lambda layer: self.node(layer, "Flatten", axis=1),
            "reshape": self.reshape,
            "dropout": lambda layer: self.node(layer, "Identity"),
            "split": lambda layer: self.node(layer, "Identity"),
        }
        """Operation to what adds its nodes and returns the expected mean square of its output."""
        for index, layer in enumerate(network.layers):
            tensor, mean_square = self.add(index, layer)
            self.tensors.append(tensor)
            self.mean_squares.append(mean_square)

    def fault(self, layer: Layer, what: str) -> GenerateError:
        return GenerateError(f"network {self.network.name!r}: layer {layer.name!r} ({layer.op}) {what}")

    def add(self, index: int, layer: Layer) -> tuple[str, float]:
        """The tensor that the layer's readers read, and its expected mean square."""
        if min(layer.output_shape, default=0) < 1:
            raise self.fault(layer, f"has the output shape {layer.output_shape}, needs sides of at least 1")
        if layer.op == "input":
            return layer.name, 1.0
        if layer.op not in self.makers:
            raise self.fault(layer, f"has no counterpart in ONNX; known: {', '.join(self.makers)}")
        wanted = {"add": 2, "concat": max(1, len(layer.inputs))}.get(layer.op, 1)
        if len(layer.inputs) != wanted:
            raise self.fault(layer, f"reads {len(layer.inputs)} layers, must read {wanted}")
        if layer.op in WITHOUT_NODE and self.network.consumers[index]:
            return self.tensors[layer.inputs[0]], self.mean_squares[layer.inputs[0]]
        before = len(self.weights)
        mean_square = self.makers[layer.op](layer)
        size_bytes = sum(tensor.size_bytes for tensor in self.weights[before:])
        if size_bytes != layer.weight_bytes and layer.op not in NORMALISATIONS:
            raise self.fault(
                layer, f"has {layer.weight_bytes} bytes of weights, its shapes need {size_bytes}"
            )
        return layer.name, mean_square

    def node(
        self, layer: Layer, operator: str, *more: str, reads: list[str] | None = None, **attributes: Any
    ) -> float:
        """Add the layer's own node; the average mean square of what the layer reads.

        The node reads ``reads``, by default what the layer reads, and ``more``.
        """
        names = reads or [self.tensors[index] for index in layer.inputs]
        self.extra_node(layer.name, operator, [*names, *more], **attributes)
        sizes = [math.prod(self.network.layers[index].output_shape) for index in layer.inputs]
        squares = [self.mean_squares[index] for index in layer.inputs]
        return sum(s * m for s, m in zip(sizes, squares, strict=True)) / sum(sizes)

    def extra_node(self, name: str, operator: str, reads: list[str], **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(operator, reads, [name], name=name, **attributes))
        return name

    def stored(
        self, layer: Layer, part: str, shape: tuple[int, ...], mean: float = 0.0, deviation: float = 0.1
    ) -> str:
        tensor = RandomTensor(f"{layer.name}/{part}", shape, mean, deviation)
        self.weights.append(tensor)
        return tensor.name

    def products(self, layer: Layer, shape: tuple[int, ...]) -> list[str]:
        """Weights of that shape, output channels first, and a bias where the layer's bytes include one."""
        variance = 2 / (math.prod(shape[1:]) * self.mean_squares[layer.inputs[0]])
        names = [self.stored(layer, "weight", shape, deviation=math.sqrt(variance))]
        if layer.weight_bytes > math.prod(shape) * FLOAT32_BYTES:
            names.append(self.stored(layer, "bias", shape[:1]))
        return names

    def read_shape(self, layer: Layer) -> tuple[int, ...]:
        """Shape of what a layer with one input reads."""
        return self.network.layers[layer.inputs[0]].output_shape

    def window(self, layer: Layer, *others: str) -> tuple[tuple[int, int], int, int]:
        """Kernel sides, stride and padding; attributes besides these and ``others`` are refused."""
        given = layer.attributes.keys()
        if not given >= WINDOW or not given <= WINDOW.union(others):
            raise self.fault(
                layer,
                f"has the attributes {sorted(given)}, must have {sorted(WINDOW)}, may have {sorted(others)}",
            )
        shapes = self.read_shape(layer), layer.output_shape
        if any(len(shape) != 4 for shape in shapes):
            raise self.fault(
                layer,
                f"reads {shapes[0]} and writes {shapes[1]}, both must be (batch, channels, height, width)",
            )
        a = layer.attributes
        return (a["kernel_h"], a["kernel_w"]), a["stride"], a["pad"]

    def convolution(self, layer: Layer) -> float:
        kernel, stride, pad = self.window(layer, "groups", "in_channels", "pad_w")
        pads = [pad, layer.attributes.get("pad_w", pad)] * 2
        groups = layer.attributes.get("groups", 1)
        weights = self.products(layer, (layer.output_shape[1], self.read_shape(layer)[1] // groups, *kernel))
        places: dict[str, Any] = {"kernel_shape": kernel, "strides": [stride] * 2, "pads": pads}
        self.node(layer, "Conv", *weights, **places, group=groups)
        return 2.0

    def fully_connected(self, layer: Layer) -> float:
        reads = [self.tensors[layer.inputs[0]]]
        shape = self.read_shape(layer)
        if len(shape) != 2:
            reads = [self.extra_node(f"{layer.name}/flatten", "Flatten", reads, axis=1)]
        weights = self.products(layer, (layer.output_shape[-1], math.prod(shape[1:])))
        self.node(layer, "Gemm", *weights, reads=reads, transB=1)
        return 2.0

    def pooling(self, layer: Layer) -> float:
        kernel, stride, pad = self.window(layer, "in_channels", "average")
        average = layer.attributes.get("average", 0)
        sides = self.read_shape(layer)[2:]
        if average and kernel == sides and not pad:
            return self.node(layer, "GlobalAveragePool")
        # what the last window needs beyond the input: more than ``pad`` where the size was rounded up
        far = [
            max(0, (out - 1) * stride + k - pad - side)
            for out, k, side in zip(layer.output_shape[2:], kernel, sides, strict=True)
        ]
        places: dict[str, Any] = {"kernel_shape": kernel, "strides": [stride] * 2, "pads": [pad, pad, *far]}
        if average:
            return self.node(layer, "AveragePool", **places)
        return self.node(layer, "MaxPool", **places) * MAX_POOLING

    def rectifier(self, layer: Layer) -> float:
        after_add = self.network.layers[layer.inputs[0]].op == "add"
        return self.node(layer, "Relu") / (1 if after_add else 2)

    def normalisation(self, layer: Layer) -> float:
        channels = self.read_shape(layer)[1:2]
        # around 1, and never near 0: a variance must be positive
        factor, variance = (self.stored(layer, part, channels, 1.0, 0.05) for part in ("factor", "variance"))
        shift, mean = (self.stored(layer, part, channels) for part in ("shift", "mean"))
        return self.node(layer, "BatchNormalization", factor, shift, mean, variance)

    def reshape(self, layer: Layer) -> float:
        shape = self.extra_node(f"{layer.name}/shape", "Constant", [], value_ints=layer.output_shape)
        return self.node(layer, "Reshape", shape)

    def checked_model(self) -> Any:
        """The model without weights, after ONNX has inferred for every layer the shape that the layer has."""
        onnx, layers = self.onnx, self.network.layers
        self.check_names()

        def values(chosen: list[Layer], *, shaped: bool) -> list[Any]:
            kind = onnx.TensorProto.FLOAT
            return [
                onnx.helper.make_tensor_value_info(each.name, kind, each.output_shape if shaped else None)
                for each in chosen
            ]

        inputs = [layer for layer in layers if layer.op == "input"]
        outputs = [layers[index] for index, readers in enumerate(self.network.consumers) if not readers]
        graph = onnx.helper.make_graph(
            self.nodes, self.network.name, values(inputs, shaped=True), values(outputs, shaped=False)
        )
        model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="edgesched", graph=graph)
        model.opset_import.add(domain="", version=OPSET)
        model.graph.initializer.extend(tensor.initializer() for tensor in self.weights)
        self.check_shapes(model)
        del model.graph.initializer[:], model.graph.output[:]
        model.graph.output.extend(values(outputs, shaped=True))
        return model

    def check_names(self) -> None:
        taken: set[str] = set()
        inputs = [layer.name for layer in self.network.layers if layer.op == "input"]
        produced = [name for node in self.nodes for name in node.output]
        for name in (*inputs, *produced, *(tensor.name for tensor in self.weights)):
            if not name or name in taken:
                raise GenerateError(
                    f"network {self.network.name!r}: {name!r} names two tensors, or none; every layer "
                    f"needs a name of its own"
                )
            taken.add(name)

    def check_shapes(self, model: Any) -> None:
        inference = self.onnx.shape_inference
        try:
            graph = inference.infer_shapes(model, strict_mode=True).graph
        except inference.InferenceError as error:
            reason = " ".join(str(error).split())
            raise GenerateError(f"network {self.network.name!r}: a layer does not fit: {reason}") from None
        found = {
            value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        for layer, tensor in zip(self.network.layers, self.tensors, strict=True):
            if found.get(tensor) != layer.output_shape:
                raise self.fault(layer, f"writes {layer.output_shape}, ONNX computes {found.get(tensor)}")

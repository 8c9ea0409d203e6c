"""Small ONNX models with random weights, for tests of the bridge."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def chain(
    path: Path,
    *,
    channels: int = 16,
    convolutions: int = 2,
    features: tuple[int, ...] = (64,),
    side: int = 32,
    seed: int = 0,
) -> None:
    """Convolutions with ReLU, global average pooling, fully-connected layers; input ``x``, output ``y``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def add(op: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def weight(name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
        weights.append(numpy_helper.from_array(values, name))
        return name

    last, depth = "x", 3
    for index in range(convolutions):
        inputs = [last, weight(f"w{index}", channels, depth, 3, 3), weight(f"b{index}", channels)]
        last = add("Conv", inputs, f"conv{index}", pads=[1] * 4)
        last = add("Relu", [last], f"relu{index}")
        depth = channels
    last = add("Flatten", [add("GlobalAveragePool", [last], "pool")], "flat")
    for index, size in enumerate(features):
        last = add("Gemm", [last, weight(f"fw{index}", size, depth), weight(f"fb{index}", size)],
                   f"fc{index}" if index < len(features) - 1 else "y", transB=1)  # fmt: skip
        depth = size
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, features[-1]])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

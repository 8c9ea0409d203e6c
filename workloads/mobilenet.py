"""MobileNet v1 (Howard et al., 2017) and v2 (Sandler et al., CVPR 2018), width 1.0."""

from __future__ import annotations

from .builder import GraphBuilder, Tensor
from .network import Network

# v1, table 1: output channels and stride of each depthwise-separable block
V1_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)

# v2, table 2: expansion t, channels c, repeats n, stride of the first s
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv(x: Tensor, name: str, channels: int, kernel: int, stride: int = 1, *, relu: bool = True) -> Tensor:
    x = x.conv(name, channels, kernel, stride=stride, pad=kernel // 2, bias=False).batch_norm(f"{name}/bn")
    return x.relu(f"{name}/relu") if relu else x


def _depthwise(x: Tensor, name: str, stride: int) -> Tensor:
    x = x.depthwise(name, 3, stride=stride, pad=1, bias=False)
    return x.batch_norm(f"{name}/bn").relu(f"{name}/relu")


def mobilenet_v1(input_size: int = 224, batch: int = 1) -> Network:
    """MobileNet v1 with 1000 classes."""
    graph = GraphBuilder("MobileNet v1")
    x = _conv(graph.input("data", (batch, 3, input_size, input_size)), "conv1", 32, 3, 2)
    for number, (channels, stride) in enumerate(V1_BLOCKS, start=2):
        x = _conv(_depthwise(x, f"conv{number}/dw", stride), f"conv{number}/pw", channels, 1)
    x.global_average_pool("pool").fc("fc", 1000).softmax("prob")
    return graph.build()


def _bottleneck(x: Tensor, name: str, channels: int, expansion: int, stride: int) -> Tensor:
    """An inverted residual: expand, filter each channel, project without activation."""
    inside = x
    if expansion > 1:
        inside = _conv(inside, f"{name}/expand", x.shape[1] * expansion, 1)
    inside = _conv(_depthwise(inside, f"{name}/dw", stride), f"{name}/project", channels, 1, relu=False)
    return x.add(f"{name}/add", inside) if stride == 1 and x.shape[1] == channels else inside


def mobilenet_v2(input_size: int = 224, batch: int = 1) -> Network:
    """MobileNet v2 with 1000 classes."""
    graph = GraphBuilder("MobileNet v2")
    x = _conv(graph.input("data", (batch, 3, input_size, input_size)), "conv1", 32, 3, 2)
    number = 0
    for expansion, channels, repeats, first_stride in V2_STAGES:
        for repeat in range(repeats):
            number += 1
            x = _bottleneck(x, f"block{number}", channels, expansion, first_stride if repeat == 0 else 1)
    x = _conv(x, "conv_last", 1280, 1)
    x.global_average_pool("pool").dropout("drop").fc("fc", 1000).softmax("prob")
    return graph.build()

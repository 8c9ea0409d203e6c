"""ResNet (He et al., CVPR 2016).

In the bottleneck the stride lies in the 3x3 convolution ("v1.5" of torchvision and MLPerf: 4.09 GMAC for
ResNet-50); the paper's own placement in the first 1x1 convolution has the same weights and 3.86 GMAC.
"""

from __future__ import annotations

from collections.abc import Callable

from .builder import GraphBuilder, Tensor
from .network import Network


def _conv(x: Tensor, name: str, channels: int, kernel: int, stride: int = 1, *, relu: bool = True) -> Tensor:
    x = x.conv(name, channels, kernel, stride=stride, pad=kernel // 2, bias=False).batch_norm(f"{name}/bn")
    return x.relu(f"{name}/relu") if relu else x


def _join(x: Tensor, inside: Tensor, name: str, stride: int) -> Tensor:
    """Add the shortcut, projected where the shape changes."""
    shortcut = x
    if stride != 1 or x.shape[1] != inside.shape[1]:
        shortcut = _conv(x, f"{name}/shortcut", inside.shape[1], 1, stride, relu=False)
    return inside.add(f"{name}/add", shortcut).relu(f"{name}/relu")


def basic_block(x: Tensor, name: str, channels: int, stride: int) -> Tensor:
    """Two 3x3 convolutions."""
    inside = _conv(x, f"{name}/conv1", channels, 3, stride)
    inside = _conv(inside, f"{name}/conv2", channels, 3, relu=False)
    return _join(x, inside, name, stride)


def bottleneck(x: Tensor, name: str, channels: int, stride: int) -> Tensor:
    """1x1, 3x3 and 1x1 convolutions, four times as many channels out."""
    inside = _conv(x, f"{name}/conv1", channels, 1)
    inside = _conv(inside, f"{name}/conv2", channels, 3, stride)
    inside = _conv(inside, f"{name}/conv3", 4 * channels, 1, relu=False)
    return _join(x, inside, name, stride)


def _resnet(
    name: str,
    input_size: int,
    batch: int,
    block: Callable[[Tensor, str, int, int], Tensor],
    repeats: tuple[int, int, int, int],
) -> Network:
    graph = GraphBuilder(name)
    x = _conv(graph.input("data", (batch, 3, input_size, input_size)), "conv1", 64, 7, 2)
    x = x.pool("pool1", 3, stride=2, pad=1)
    for stage, count in enumerate(repeats, start=2):
        for index in range(1, count + 1):
            stride = 2 if index == 1 and stage > 2 else 1
            x = block(x, f"conv{stage}_{index}", 64 * 2 ** (stage - 2), stride)
    x.global_average_pool("pool5").fc("fc", 1000).softmax("prob")
    return graph.build()


def resnet18(input_size: int = 224, batch: int = 1) -> Network:
    """ResNet-18 with 1000 classes, projection shortcuts where the shape changes."""
    return _resnet("ResNet-18", input_size, batch, basic_block, (2, 2, 2, 2))


def resnet50(input_size: int = 224, batch: int = 1) -> Network:
    """ResNet-50 with 1000 classes."""
    return _resnet("ResNet-50", input_size, batch, bottleneck, (3, 4, 6, 3))

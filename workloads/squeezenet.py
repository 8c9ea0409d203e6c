"""SqueezeNet (Iandola et al., 2016): fire modules, no fully-connected layer."""

from __future__ import annotations

from .builder import GraphBuilder, Tensor
from .network import Network

# squeeze and expand channels of fire2 ... fire9 (expand counts each of its two halves)
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def fire(x: Tensor, name: str, squeeze: int, expand: int) -> Tensor:
    """A fire module: a 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""
    x = x.conv(f"{name}/squeeze1x1", squeeze, 1).relu(f"{name}/relu_squeeze1x1")
    one = x.conv(f"{name}/expand1x1", expand, 1).relu(f"{name}/relu_expand1x1")
    three = x.conv(f"{name}/expand3x3", expand, 3, pad=1).relu(f"{name}/relu_expand3x3")
    return x.graph.concat(f"{name}/concat", (one, three))


def _squeezenet(
    name: str, input_size: int, batch: int, stem: tuple[int, int], pools_before: tuple[int, ...]
) -> Network:
    channels, kernel = stem
    graph = GraphBuilder(name)
    x = graph.input("data", (batch, 3, input_size, input_size))
    x = x.conv("conv1", channels, kernel, stride=2).relu("relu_conv1")
    for number, (squeeze, expand) in enumerate(FIRES, start=2):
        if number in pools_before:
            x = x.pool(f"pool{number - 1}", 3, stride=2, ceil=True)
        x = fire(x, f"fire{number}", squeeze, expand)
    x = x.dropout("drop9").conv("conv10", 1000, 1).relu("relu_conv10")
    x.global_average_pool("pool10").softmax("prob")
    return graph.build()


def squeezenet_1_0(input_size: int = 224, batch: int = 1) -> Network:
    """The network of the paper's table 1: 7x7 stem, pooling after conv1, fire4 and fire8."""
    return _squeezenet("SqueezeNet 1.0", input_size, batch, (96, 7), (2, 5, 9))


def squeezenet_1_1(input_size: int = 224, batch: int = 1) -> Network:
    """The authors' later version (github.com/forresti/SqueezeNet): 3x3 stem, earlier pooling, less work."""
    return _squeezenet("SqueezeNet 1.1", input_size, batch, (64, 3), (2, 4, 6))

"""VGG (Simonyan and Zisserman, ICLR 2015): 3x3 convolutions in five blocks, three fully-connected layers."""

from __future__ import annotations

from .builder import GraphBuilder, Tensor
from .network import Network

CHANNELS = (64, 128, 256, 512, 512)


def vgg_layers(x: Tensor, convolutions: tuple[int, ...]) -> Tensor:
    """Configuration D (2, 2, 3, 3, 3 convolutions a block) or E (2, 2, 4, 4, 4) with 1000 classes."""
    for block, (count, channels) in enumerate(zip(convolutions, CHANNELS, strict=True), start=1):
        for index in range(1, count + 1):
            x = x.conv(f"conv{block}_{index}", channels, 3, pad=1).relu(f"relu{block}_{index}")
        x = x.pool(f"pool{block}", 2, stride=2)
    x = x.fc("fc6", 4096).relu("relu6").dropout("drop6")
    x = x.fc("fc7", 4096).relu("relu7").dropout("drop7")
    return x.fc("fc8", 1000).softmax("prob")


def vgg16(input_size: int = 224, batch: int = 1) -> Network:
    """VGG-16, configuration D."""
    graph = GraphBuilder("VGG-16")
    vgg_layers(graph.input("data", (batch, 3, input_size, input_size)), (2, 2, 3, 3, 3))
    return graph.build()

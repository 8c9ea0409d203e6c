"""GoogLeNet (Szegedy et al., CVPR 2015): nine inception modules, no auxiliary classifiers."""

from __future__ import annotations

from .builder import GraphBuilder, Tensor
from .network import Network

# Table 1 of the paper: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def inception(x: Tensor, module: str) -> Tensor:
    """One inception module: four branches on the same input, joined along the channels."""
    prefix = f"inception_{module}"
    direct, reduce_3, out_3, reduce_5, out_5, projected = INCEPTION[module]

    def conv(source: Tensor, name: str, channels: int, kernel: int) -> Tensor:
        tensor = source.conv(f"{prefix}/{name}", channels, kernel, pad=kernel // 2)
        return tensor.relu(f"{prefix}/relu_{name}")

    source = x.split() if x.graph.caffe else x
    branches = [
        conv(source, "1x1", direct, 1),
        conv(conv(source, "3x3_reduce", reduce_3, 1), "3x3", out_3, 3),
        conv(conv(source, "5x5_reduce", reduce_5, 1), "5x5", out_5, 5),
        conv(source.pool(f"{prefix}/pool", 3, pad=1), "pool_proj", projected, 1),
    ]
    return x.graph.concat(f"{prefix}/output", branches)


def googlenet_features(x: Tensor) -> Tensor:
    """Everything before the classifier: (N, 1024, 1, 1) for 224 px."""
    x = x.conv("conv1/7x7_s2", 64, 7, stride=2, pad=3).relu("conv1/relu_7x7")
    x = x.pool("pool1/3x3_s2", 3, stride=2, ceil=True).lrn("pool1/norm1")
    x = x.conv("conv2/3x3_reduce", 64, 1).relu("conv2/relu_3x3_reduce")
    x = x.conv("conv2/3x3", 192, 3, pad=1).relu("conv2/relu_3x3").lrn("conv2/norm2")
    x = x.pool("pool2/3x3_s2", 3, stride=2, ceil=True)
    for module in INCEPTION:
        x = inception(x, module)
        if module in ("3b", "4e"):
            stage = int(module[0])
            x = x.pool(f"pool{stage}/3x3_s2", 3, stride=2, ceil=True)
    return x.pool("pool5/7x7_s1", 7, average=True).dropout("pool5/drop_7x7_s1")


def googlenet(input_size: int = 224, batch: int = 1) -> Network:
    """GoogLeNet with 1000 classes."""
    graph = GraphBuilder("GoogLeNet")
    x = googlenet_features(graph.input("data", (batch, 3, input_size, input_size)))
    x.fc("loss3/classifier", 1000).softmax("prob")
    return graph.build()

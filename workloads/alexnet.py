"""AlexNet (Krizhevsky, Sutskever, Hinton, NeurIPS 2012) and CaffeNet's convolutional part."""

from __future__ import annotations

from .builder import GraphBuilder, Tensor
from .network import Network


def caffenet_features(x: Tensor) -> Tensor:
    """The convolutions of CaffeNet (Jia et al., 2014): AlexNet with pooling before normalisation."""
    x = x.conv("conv1", 96, 11, stride=4).relu("relu1").pool("pool1", 3, stride=2).lrn("norm1")
    x = x.conv("conv2", 256, 5, pad=2, groups=2).relu("relu2").pool("pool2", 3, stride=2).lrn("norm2")
    x = x.conv("conv3", 384, 3, pad=1).relu("relu3")
    x = x.conv("conv4", 384, 3, pad=1, groups=2).relu("relu4")
    return x.conv("conv5", 256, 3, pad=1, groups=2).relu("relu5").pool("pool5", 3, stride=2)


def alexnet(input_size: int = 224, batch: int = 1) -> Network:
    """AlexNet with its two groups, normalisation before pooling, 1000 classes.

    224 px padded by 2 give the 55 x 55 outputs of the first layer that the paper states.
    """
    graph = GraphBuilder("AlexNet")
    x = graph.input("data", (batch, 3, input_size, input_size))
    x = x.conv("conv1", 96, 11, stride=4, pad=2).relu("relu1").lrn("norm1").pool("pool1", 3, stride=2)
    x = x.conv("conv2", 256, 5, pad=2, groups=2).relu("relu2").lrn("norm2").pool("pool2", 3, stride=2)
    x = x.conv("conv3", 384, 3, pad=1).relu("relu3")
    x = x.conv("conv4", 384, 3, pad=1, groups=2).relu("relu4")
    x = x.conv("conv5", 256, 3, pad=1, groups=2).relu("relu5").pool("pool5", 3, stride=2)
    x = x.fc("fc6", 4096).relu("relu6").dropout("drop6")
    x = x.fc("fc7", 4096).relu("relu7").dropout("drop7")
    x.fc("fc8", 1000).softmax("prob")
    return graph.build()

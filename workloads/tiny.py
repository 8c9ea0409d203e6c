"""The four networks of MLPerf Tiny (Banbury et al., NeurIPS 2021 Datasets and Benchmarks) as deployed.

Batch normalisation is part of weights and biases, one bias for each output channel, as in the benchmark's
8-bit models. Rectifiers are layers of their own; kernels that compute them along with the layer before take
no time for them.
"""

from __future__ import annotations

from .builder import GraphBuilder, Tensor, im2col_bytes
from .mobilenet import V1_BLOCKS
from .network import Network

QUARTER = 4
"""MobileNet's width multiplier is 1 / 4."""
KEYWORD_FRAMES, KEYWORD_COEFFICIENTS = 49, 10
KEYWORD_CHANNELS, KEYWORD_BLOCKS = 64, 4
AUTOENCODER_FEATURES = (128, 128, 128, 128, 8, 128, 128, 128, 128, 640)


def _same(size: int, kernel: int, stride: int) -> int:
    """Padding at the start that keeps ceil(size / stride) outputs (SAME of TensorFlow, the larger side)."""
    return (max((-(-size // stride) - 1) * stride + kernel - size, 0) + 1) // 2


def _conv(x: Tensor, name: str, channels: int, kernel: int, stride: int = 1) -> Tensor:
    return x.conv(name, channels, kernel, stride=stride, pad=kernel // 2).relu(f"{name}/relu")


def _depthwise(x: Tensor, name: str, stride: int = 1) -> Tensor:
    return x.depthwise(name, 3, stride=stride, pad=1).relu(f"{name}/relu")


def resnet8(input_size: int = 32, batch: int = 1) -> Network:
    """ResNet-8 for CIFAR-10: three stages of one basic block each."""
    graph = GraphBuilder("ResNet-8")
    x = _conv(graph.input("data", (batch, 3, input_size, input_size)), "conv1", 16, 3)
    for number, channels in enumerate((16, 32, 64), start=1):
        stride = 1 if number == 1 else 2
        y = _conv(x, f"block{number}/conv1", channels, 3, stride)
        y = y.conv(f"block{number}/conv2", channels, 3, pad=1)
        if stride > 1:
            x = x.conv(f"block{number}/shortcut", channels, 1, stride=stride)
        x = x.add(f"block{number}/add", y).relu(f"block{number}/relu")
    x.global_average_pool("pool").fc("fc", 10).softmax("prob")
    return graph.build()


def mobilenet_v1_quarter(input_size: int = 96, batch: int = 1) -> Network:
    """MobileNet v1, width 0.25, with 2 classes (visual wake words)."""
    graph = GraphBuilder("MobileNet v1 0.25")
    x = _conv(graph.input("data", (batch, 3, input_size, input_size)), "conv1", 8, 3, 2)
    for number, (channels, stride) in enumerate(V1_BLOCKS, start=2):
        x = _depthwise(x, f"conv{number}/dw", stride)
        x = _conv(x, f"conv{number}/pw", channels // QUARTER, 1)
    x.global_average_pool("pool").fc("fc", 2).softmax("prob")
    return graph.build()


def ds_cnn(input_size: int = KEYWORD_FRAMES, batch: int = 1) -> Network:
    """Depthwise-separable network for 12 keywords; ``input_size`` frames of 10 coefficients."""
    graph = GraphBuilder("DS-CNN")
    x = _keyword_stem(graph.input("data", (batch, 1, input_size, KEYWORD_COEFFICIENTS))).relu("conv1/relu")
    for number in range(1, KEYWORD_BLOCKS + 1):
        x = _conv(_depthwise(x, f"block{number}/dw"), f"block{number}/pw", KEYWORD_CHANNELS, 1)
    x.global_average_pool("pool").fc("fc", 12).softmax("prob")
    return graph.build()


def _keyword_stem(x: Tensor) -> Tensor:
    """A convolution of 10 frames x 4 coefficients, stride 2."""
    kernel, stride = (10, 4), 2
    batch, channels, *sides = x.shape
    height, width = (-(-side // stride) for side in sides)
    pad_h, pad_w = (_same(side, k, stride) for side, k in zip(sides, kernel, strict=True))
    values = channels * kernel[0] * kernel[1]
    return x.graph.append(
        "conv1",
        "convolution",
        (x,),
        (batch, KEYWORD_CHANNELS, height, width),
        parameters=KEYWORD_CHANNELS * (values + 1),
        macs=batch * KEYWORD_CHANNELS * height * width * values,
        workspace_bytes=im2col_bytes(channels, kernel, (height, width), pointwise=False),
        attributes={
            "kernel_h": kernel[0],
            "kernel_w": kernel[1],
            "stride": stride,
            "pad": pad_h,
            "pad_w": pad_w,
            "groups": 1,
            "in_channels": channels,
        },
    )


def autoencoder(input_size: int = 640, batch: int = 1) -> Network:
    """Fully-connected autoencoder of ``input_size`` spectrogram values (anomalies in a machine's sound)."""
    graph = GraphBuilder("ToyADMOS autoencoder")
    x = graph.input("data", (batch, input_size))
    for number, features in enumerate(AUTOENCODER_FEATURES, start=1):
        x = x.fc(f"fc{number}", features)
        if number < len(AUTOENCODER_FEATURES):
            x = x.relu(f"fc{number}/relu")
    return graph.build()

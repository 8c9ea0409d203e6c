"""The networks of MLPerf Tiny against their published sizes."""

import pytest

from edgesched.workloads.catalogue import build
from edgesched.workloads.network import Network

# Multiply-accumulates of the benchmark's 8-bit models, and all values of its Keras models, which hold four
# for each channel that is normalised: the deployed ones have these folded into weights and biases.
PUBLISHED = {
    "ResNet-8": (12_501_632, 78_666),
    "MobileNet v1 0.25": (7_489_664, 221_794),
    "DS-CNN": (2_656_768, 24_908),
    "ToyADMOS autoencoder": (264_192, 269_992),
}


def normalised_channels(network: Network) -> int:
    """Channels of the convolutions (not of shortcuts), and of hidden fully-connected layers without any."""
    convolutions = [
        layer.output_shape[1]
        for layer in network.layers
        if layer.op in ("convolution", "depthwise") and "shortcut" not in layer.name
    ]
    hidden = [layer.output_shape[1] for layer in network.layers if layer.op == "fully-connected"][:-1]
    return sum(convolutions or hidden)


@pytest.mark.parametrize("name", PUBLISHED)
def test_macs_and_values_are_the_published_ones(name: str) -> None:
    macs, values = PUBLISHED[name]
    network = build(name)
    assert network.macs == macs
    assert network.weight_bytes // 4 + 4 * normalised_channels(network) == values


@pytest.mark.parametrize(
    ("name", "read", "written"),
    [
        ("ResNet-8", (1, 3, 32, 32), (1, 10)),
        ("MobileNet v1 0.25", (1, 3, 96, 96), (1, 2)),
        ("DS-CNN", (1, 1, 49, 10), (1, 12)),
        ("ToyADMOS autoencoder", (1, 640), (1, 640)),
    ],
)
def test_what_they_read_and_write(name: str, read: tuple[int, ...], written: tuple[int, ...]) -> None:
    network = build(name)
    assert network.input_shape == read
    assert network.layers[-1].output_shape == written


def test_the_first_kernel_of_ds_cnn_is_10_frames_of_4_coefficients() -> None:
    stem = build("DS-CNN").layers[1]
    assert stem.output_shape == (1, 64, 25, 5)
    assert stem.macs == 64 * 25 * 5 * 10 * 4
    assert stem.weight_bytes == 4 * (64 * 10 * 4 + 64)
    assert stem.workspace_bytes == 4 * (10 * 4) * (25 * 5)
    assert (stem.attributes["pad"], stem.attributes["pad_w"]) == (5, 1)

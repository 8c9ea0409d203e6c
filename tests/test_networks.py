"""The networks of the catalogue against measured rows and published totals."""

import csv
import doctest
import pickle
from pathlib import Path
from types import ModuleType

import pytest

from edgesched.workloads import builder, catalogue
from edgesched.workloads.builder import GraphBuilder, convolved_size, pooled_size
from edgesched.workloads.catalogue import NETWORKS, UnknownNetworkError, build, names, split_name
from edgesched.workloads.network import Network

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "edgecaffe"

VARIANTS = {"default": "", "scaled_test_1": "@1340", "scaled_test_2": "@1275", "scaled_test_3": "@2520"}

OPS = {
    "Input": "input",
    "Convolution": "convolution",
    "InnerProduct": "fully-connected",
    "Pooling": "pooling",
    "LRN": "lrn",
    "ReLU": "relu",
    "BatchNorm": "batch-norm",
    "Scale": "scale",
    "Dropout": "dropout",
    "Softmax": "softmax",
    "Concat": "concat",
    "Split": "split",
}

# Totals of the EdgeCaffe data set (networks.csv and sums of network_layers.csv, both derived by shape
# inference from the authors' prototxt files): layers, conv_layers, load_copies, then the bytes of weights,
# MACs, bytes of outputs, of im2col buffers and of other buffers.
EDGECAFFE_TOTALS = {
    "AgeNet": (20, 12, 3, 45660192, 709253120, 4009388, 11176704, 1095260),
    "GenderNet": (20, 12, 3, 45647880, 7092500480, 40093400, 11176704, 10804424),
    "FaceNet": (24, 16, 1, 227505672, 720319008, 4194300, 17657580, 959904),
    "FaceNet@1340": (24, 16, 1, 227505672, 96719342880, 200044352, 727280268, 37645024),
    "FaceNet@1275": (24, 16, 1, 227505672, 86635936032, 180631276, 658247436, 34102000),
    "FaceNet@2520": (24, 16, 1, 227505672, 383712317952, 736711696, 2624276160, 134764552),
    "SoS": (22, 16, 3, 227554836, 720331296, 4194324, 17620716, 959904),
    "SoS_GoogleNet": (152, 10, 1, 23914708, 15816529920, 273343760, 32724160, 88950328),
    "EmotionNet": (23, 15, 1, 395360796, 2633640992, 13545656, 30757548, 5513024),
    "MemNet": (23, 16, 3, 227489284, 7203149120, 41942880, 17620716, 9445644),
    "SceneNet": (24, 16, 3, 230832436, 7211504960, 41959240, 17620716, 9445644),
    "ObjectNet": (46, 36, 1, 574668960, 196320624640, 661727360, 373911552, 61782456),
    "TinyYolo": (40, 40, 1, 64701572, 3172663296, 76935232, 74935296, 5660224),
}

# Trained parameters, and multiply-accumulates in 10^9 to the precision of the source. Sources: torchvision's
# model pages (num_params, GFLOPS, which are MACs) where the network is the same; Keras Applications for
# MobileNet v1 (4,253,864 with the 21,888 running means and variances) and table 8 of its paper (569 M); Sze
# et al. 2017, table 2, for AlexNet with groups (61 M, 724 M); Caffe's bvlc_alexnet for its exact count.
PUBLISHED = {
    "ResNet-18": (11_689_512, 1.814, 0.001),
    "ResNet-50": (25_557_032, 4.089, 0.001),
    "VGG-16": (138_357_544, 15.47, 0.01),
    "SqueezeNet 1.0": (1_248_424, 0.819, 0.001),
    "SqueezeNet 1.1": (1_235_496, 0.349, 0.001),
    "MobileNet v1": (4_253_864 - 21_888, 0.569, 0.001),
    "MobileNet v2": (3_504_872, 0.301, 0.001),
    "AlexNet": (60_965_224, 0.724, 0.001),
}


def parameters(network: Network) -> int:
    """Trained values: all but the running mean and variance of each normalised channel."""
    running = sum(2 * layer.output_shape[1] for layer in network.layers if layer.op == "batch-norm")
    return network.weight_bytes // 4 - running


def totals(network: Network) -> tuple[int, ...]:
    return (
        len(network.layers),
        network.conv_layers,
        network.load_copies,
        network.weight_bytes,
        network.macs,
        network.output_bytes,
        sum(layer.workspace_bytes for layer in network.layers),
        sum(layer.scratch_bytes for layer in network.layers),
    )


def rows(name: str) -> list[dict[str, str]]:
    if not DATA.is_dir():
        pytest.skip(f"the measured data set is not here ({DATA}); the embedded totals are tested instead")
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_of_the_edgecaffe_layers_agrees() -> None:
    table = rows("network_layers.csv")
    assert len(table) == 466
    seen = dict.fromkeys(EDGECAFFE_TOTALS, 0)
    for row in table:
        key = row["network"] + VARIANTS[row["variant"]]
        network = build(key)
        index = int(row["layer_id"])
        layer = network.layers[index]
        seen[key] += 1
        expected = {
            "name": row["layer_name"],
            "op": OPS[row["layer_type"]],
            "weight_bytes": int(row["weight_bytes_derived"]),
            "output_bytes": int(row["output_bytes_derived"]),
            "workspace_bytes": int(row["im2col_bytes_derived"]),
            "scratch_bytes": int(row["other_buffer_bytes_derived"]),
            "macs": int(row["macs_derived"]),
        }
        assert {field: getattr(layer, field) for field in expected} == expected, (key, index)
        assert int(index >= network.conv_layers) == int(row["deepeye_pool"]), (key, index)
        # The table leaves the shape of Caffe's inserted Split layers blank: they have several equal outputs.
        if row["layer_type"] == "Split":
            assert row["output_shape_derived"] == ""
            assert layer.output_shape == network.layers[layer.inputs[0]].output_shape
        else:
            assert "x".join(map(str, layer.output_shape)) == row["output_shape_derived"], (key, index)
    assert seen == {key: len(build(key).layers) for key in EDGECAFFE_TOTALS}


def test_every_row_of_the_edgecaffe_networks_agrees() -> None:
    table = rows("networks.csv")
    assert len(table) == 13
    for row in table:
        network = build(row["network"] + VARIANTS[row["variant"]])
        assert network.input_shape == tuple(int(row[k]) for k in ("batch", "input_c", "input_h", "input_w"))
        assert network.conv_layers == int(row["num_conv_layers_key"])
        # The format of TinyYolo's model file is unknown (blank); one copy is assumed.
        assert network.load_copies == {"1": 3, "0": 1, "": 1}[row["caffemodel_is_V1_inferred"]]
        assert (row["caffemodel_is_V1_inferred"] == "") == (row["network"] == "TinyYolo")
        assert round(network.macs / 1e9, 3) == float(row["GMAC_derived"])
        assert round(network.weight_bytes / 2**20, 2) == float(row["weights_MiB_derived"])


@pytest.mark.parametrize("name", EDGECAFFE_TOTALS)
def test_edgecaffe_totals(name: str) -> None:
    assert totals(build(name)) == EDGECAFFE_TOTALS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_and_macs(name: str) -> None:
    count, gmac, precision = PUBLISHED[name]
    network = build(name)
    assert network.input_shape == (1, 3, 224, 224)
    assert parameters(network) == count
    assert network.macs / 1e9 == pytest.approx(gmac, abs=precision)


def test_googlenet_lies_near_its_rounded_publications() -> None:
    # Szegedy et al.: 1.5 billion multiply-adds;
    # Sze et al. 2017, table 2: 7 M weights.
    network = build("GoogLeNet")
    assert parameters(network) == pytest.approx(7.0e6, rel=0.01)
    assert network.macs == pytest.approx(1.5e9, rel=0.06)
    # The EdgeCaffe table, another count of the same trunk: only the classifier and the nine splits differ.
    measured = EDGECAFFE_TOTALS["SoS_GoogleNet"]
    assert network.weight_bytes - measured[3] == (1000 - 5) * 1025 * 4
    assert network.macs - measured[4] // 10 == (1000 - 5) * 1024
    assert len(network.layers) == measured[0] - 9


def test_resnet50_has_its_stride_in_the_3x3_convolution() -> None:
    strided = [
        layer.name
        for layer in build("ResNet-50").layers
        if layer.attributes.get("stride") == 2 and "/" in layer.name
    ]
    assert strided == [f"conv{s}_1/{part}" for s in (3, 4, 5) for part in ("conv2", "shortcut")]


@pytest.mark.parametrize("name", names())
def test_every_network_is_whole(name: str) -> None:
    network = build(name)
    assert network.name == name
    assert network.description
    assert "\n" not in network.description
    assert network.source
    assert len({layer.name for layer in network.layers}) == len(network.layers)
    assert network.layers[0].op == "input"
    assert sum(not readers for readers in network.consumers) == 1
    assert max(network.live_bytes) <= network.output_bytes
    assert pickle.loads(pickle.dumps(network)) == network


@pytest.mark.parametrize("name", names())
def test_work_and_outputs_grow_with_the_batch_and_weights_do_not(name: str) -> None:
    one, three = build(name, batch=1), build(name, batch=3)
    assert three.macs == 3 * one.macs
    assert three.output_bytes == 3 * one.output_bytes
    assert three.weight_bytes == one.weight_bytes
    assert [layer.workspace_bytes for layer in three.layers] == [
        layer.workspace_bytes for layer in one.layers
    ]


@pytest.mark.parametrize("name", [entry.name for entry in NETWORKS.values() if entry.resizable])
def test_weights_do_not_depend_on_the_input_size(name: str) -> None:
    size = NETWORKS[name].input_size
    larger = build(name, 2 * size)
    assert larger.weight_bytes == build(name).weight_bytes
    assert larger.macs > 2 * build(name).macs
    assert larger.name == f"{name}@{2 * size}"


def test_residual_networks_hold_the_shortcut_until_the_sum() -> None:
    network = build("ResNet-18")
    index = {layer.name: i for i, layer in enumerate(network.layers)}
    assert network.last_use[index["pool1"]] == index["conv2_1/add"]
    assert network.layers[index["conv2_1/add"]].inputs == (index["conv2_1/conv2/bn"], index["pool1"])


def test_caffe_splits_share_the_buffer_they_read() -> None:
    network = build("SoS_GoogleNet")
    index = {layer.name: i for i, layer in enumerate(network.layers)}
    split = index["pool2/3x3_s2_pool2/3x3_s2_0_split"]
    assert len(network.consumers[split]) == 4
    assert network.buffer_of[split] == index["pool2/3x3_s2"]
    assert network.last_use[index["pool2/3x3_s2"]] == index["inception_3a/pool"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ResNet-50", ("ResNet-50", None, None)),
        ("resnet50", ("ResNet-50", None, None)),
        ("squeezenet1.1", ("SqueezeNet 1.1", None, None)),
        ("mobilenet_v2", ("MobileNet v2", None, None)),
        ("SOS_googlenet", ("SoS_GoogleNet", None, None)),
        ("googlenet", ("GoogLeNet", None, None)),
        ("FaceNet@1340", ("FaceNet", 1340, None)),
        ("AgeNet#10", ("AgeNet", None, 10)),
        ("facenet@1340#2", ("FaceNet", 1340, 2)),
    ],
)
def test_names(written: str, meant: tuple[str, int | None, int | None]) -> None:
    assert split_name(written) == meant


def test_equal_requests_share_one_network() -> None:
    assert build("facenet", 1340) is build("FaceNet@1340")
    assert build("FaceNet@227") is build("FaceNet")
    assert build("AgeNet#4").name == "AgeNet#4"
    assert build("FaceNet@1340#2").name == "FaceNet@1340#2"


def test_unknown_name_lists_the_near_ones() -> None:
    with pytest.raises(UnknownNetworkError, match=r"unknown network 'AgeNett'; did you mean AgeNet"):
        build("AgeNett")
    with pytest.raises(UnknownNetworkError, match=r"known: AgeNet, GenderNet"):
        build("qqqqqqqq")
    with pytest.raises(UnknownNetworkError):
        build("")


@pytest.mark.parametrize(
    "name", ["FaceNet@", "FaceNet@big", "FaceNet@-1", "FaceNet@0", "AgeNet#0", "AgeNet#1@2"]
)
def test_malformed_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"AgeNet|FaceNet"):
        build(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("AgeNet", 300),
            r"takes 227 px, not 300: its fully-connected layers fix the size; any size: FaceNet",
        ),
        (("FaceNet@1340", 227), r"input_size is 227, but the name says 1340"),
        (("AgeNet#2", None, 3), r"batch is 3, but the name says 2"),
        (("AgeNet", None, 0), r"batch is 0, must be a whole number of at least 1"),
        (("AgeNet", None, True), r"batch is True"),
        (
            ("FaceNet", 32),
            r"layer 'pool\d' would have output .* too small|layer 'fc6-conv' would have output",
        ),
    ],
)
def test_impossible_requests(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(*arguments)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "down", "up"),
    [
        (56, 3, 2, 0, 27, 28),
        (112, 3, 2, 1, 56, 57),
        (112, 3, 2, 0, 55, 56),
        (5, 2, 2, 1, 3, 3),  # a fourth window would lie in the right padding only
        (13, 2, 1, 0, 12, 12),
        (3, 1, 3, 0, 1, 1),  # a second window would start at 3, beyond the input
    ],
)
def test_pooled_size(size: int, kernel: int, stride: int, pad: int, down: int, up: int) -> None:
    assert pooled_size(size, kernel, stride, pad) == down == convolved_size(size, kernel, stride, pad)
    assert pooled_size(size, kernel, stride, pad, ceil=True) == up


def test_grouped_and_depthwise_convolutions() -> None:
    graph = GraphBuilder("g")
    x = graph.input("data", (2, 8, 10, 10))
    x.conv("grouped", 16, 3, pad=1, groups=2).depthwise("dw", 5, stride=2, pad=2, bias=False)
    grouped, depthwise = graph.build().layers[1:]
    assert (grouped.op, grouped.weight_bytes, grouped.macs) == (
        "convolution",
        (16 * 4 * 9 + 16) * 4,
        2 * 16 * 100 * 36,
    )
    assert grouped.workspace_bytes == 8 * 9 * 100 * 4
    assert (depthwise.op, depthwise.weight_bytes, depthwise.macs) == (
        "depthwise",
        16 * 25 * 4,
        2 * 16 * 25 * 25,
    )
    assert depthwise.attributes == {
        "kernel_h": 5, "kernel_w": 5, "stride": 2, "pad": 2, "groups": 16, "in_channels": 16
    }  # fmt: skip


def test_a_pointwise_convolution_needs_im2col_only_when_strided() -> None:
    graph = GraphBuilder("g")
    graph.input("data", (1, 8, 10, 10)).conv("plain", 4, 1).conv("strided", 4, 1, stride=2)
    assert [layer.workspace_bytes for layer in graph.build().layers] == [0, 0, 4 * 25 * 4]


def test_builder_mistakes_are_named() -> None:
    graph = GraphBuilder("g")
    x = graph.input("data", (1, 6, 8, 8))
    other = GraphBuilder("h").input("data", (1, 6, 8, 8))
    with pytest.raises(ValueError, match="4 groups"):
        x.conv("c", 8, 3, groups=4)
    with pytest.raises(ValueError, match="needs one shape"):
        x.add("a", x.pool("p", 2, stride=2))
    with pytest.raises(ValueError, match="only the channels may differ"):
        graph.concat("j", (x, x.pool("q", 2, stride=2)))
    with pytest.raises(ValueError, match="of another network"):
        x.add("b", other)
    with pytest.raises(ValueError, match="needs input"):
        x.fc("f", 3).conv("d", 3, 1)
    with pytest.raises(ValueError, match="too small"):
        x.conv("e", 3, 9)
    with pytest.raises(ValueError, match="at least one tensor"):
        graph.concat("k", ())
    with pytest.raises(ValueError, match="sides must be at least 1"):
        graph.input("i", (1, 0))
    with pytest.raises(ValueError, match="at least one layer"):
        GraphBuilder("empty").build()


def test_overwriting_a_buffer_that_is_still_read_is_refused() -> None:
    graph = GraphBuilder("g")
    x = graph.input("data", (1, 4, 8, 8)).conv("c", 4, 3, pad=1)
    x.relu("r").add("sum", x)
    with pytest.raises(ValueError, match=r"layer 'r' works in place on what \['sum'\] read too"):
        graph.build()


@pytest.mark.parametrize("module", [builder, catalogue])
def test_documented_examples(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0

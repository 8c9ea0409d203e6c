"""The networks that come with edgesched, by name.

>>> build("AgeNet").macs
709253120
>>> build("facenet@1340").name
'FaceNet@1340'

A name is looked up without regard to case, blanks, points, hyphens and underscores (``resnet50``,
``ResNet-50``). ``@size`` after the name sets the side of the square input in pixels, ``#batch`` the batch:
``ResNet-50@160#4``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from . import alexnet, edgecaffe, googlenet, mobilenet, resnet, squeezenet, tiny, vgg
from .network import Network

MLPERF_TINY = "Banbury et al., MLPerf Tiny Benchmark, NeurIPS 2021 Datasets and Benchmarks"
EDGECAFFE = "B. Cox et al., EdgeCaffe (github.com/bacox/edgecaffe)"


class UnknownNetworkError(ValueError):
    """No network of that name; the message lists the nearest ones."""


@dataclass(frozen=True)
class NetworkEntry:
    """How to build a network, and what it is.

    ``make(input_size, batch)`` takes the side of the square input in pixels and the images per inference;
    ``input_size`` and ``batch`` are the defaults. ``resizable``: no fully-connected layer fixes the input
    size.
    """

    name: str
    make: Callable[[int, int], Network]
    input_size: int
    batch: int
    resizable: bool
    description: str
    source: str


def _edgecaffe(
    name: str,
    make: Callable[[int, int], Network],
    input_size: int,
    batch: int,
    description: str,
    source: str,
    *,
    resizable: bool = False,
) -> NetworkEntry:
    return NetworkEntry(name, make, input_size, batch, resizable, description, f"{source}; {EDGECAFFE}")


def _imagenet(
    name: str, make: Callable[[int, int], Network], description: str, source: str, *, resizable: bool
) -> NetworkEntry:
    return NetworkEntry(name, make, 224, 1, resizable, description, source)


def _tiny(
    name: str, make: Callable[[int, int], Network], input_size: int, description: str, *, resizable: bool
) -> NetworkEntry:
    return NetworkEntry(name, make, input_size, 1, resizable, description, MLPERF_TINY)


_ENTRIES = (
    _edgecaffe(
        "AgeNet",
        edgecaffe.age_net,
        227,
        1,
        "age group of a face, 3 convolutions",
        "Levi and Hassner, CVPRW 2015",
    ),
    _edgecaffe(
        "GenderNet",
        edgecaffe.gender_net,
        227,
        10,
        "gender of a face, 3 convolutions",
        "Levi and Hassner, CVPRW 2015",
    ),
    _edgecaffe(
        "FaceNet",
        edgecaffe.face_net,
        227,
        1,
        "face detector, CaffeNet made fully convolutional",
        "Farfade, Saberian, Li, ICMR 2015",
        resizable=True,
    ),
    _edgecaffe(
        "SoS", edgecaffe.sos, 227, 1, "number of salient objects, on CaffeNet", "Zhang et al., CVPR 2015"
    ),
    _edgecaffe(
        "SoS_GoogleNet",
        edgecaffe.sos_googlenet,
        224,
        10,
        "number of salient objects, on GoogLeNet",
        "Zhang et al., CVPR 2015",
    ),
    _edgecaffe(
        "EmotionNet",
        edgecaffe.emotion_net,
        224,
        1,
        "emotion of a face, on VGG_S",
        "Levi and Hassner, ICMI 2015",
    ),
    _edgecaffe(
        "MemNet",
        edgecaffe.mem_net,
        227,
        10,
        "memorability of an image, on CaffeNet",
        "Khosla et al., ICCV 2015",
    ),
    _edgecaffe(
        "SceneNet",
        edgecaffe.scene_net,
        227,
        10,
        "scene among Places205, on CaffeNet",
        "Zhou et al., NeurIPS 2014",
    ),
    _edgecaffe(
        "ObjectNet",
        edgecaffe.object_net,
        224,
        10,
        "object among ImageNet's 1000, VGG-19",
        "Simonyan and Zisserman, ICLR 2015",
    ),
    _edgecaffe(
        "TinyYolo",
        edgecaffe.tiny_yolo,
        416,
        1,
        "object detector, tiny YOLOv2 for COCO",
        "Redmon and Farhadi, CVPR 2017",
        resizable=True,
    ),
    _imagenet(
        "AlexNet",
        alexnet.alexnet,
        "ImageNet classifier, 5 convolutions in two groups",
        "Krizhevsky, Sutskever, Hinton, NeurIPS 2012",
        resizable=False,
    ),
    _imagenet(
        "VGG-16",
        vgg.vgg16,
        "ImageNet classifier, 13 3x3 convolutions",
        "Simonyan and Zisserman, ICLR 2015",
        resizable=False,
    ),
    _imagenet(
        "GoogLeNet",
        googlenet.googlenet,
        "ImageNet classifier, 9 inception modules",
        "Szegedy et al., CVPR 2015",
        resizable=False,
    ),
    _imagenet(
        "SqueezeNet 1.0",
        squeezenet.squeezenet_1_0,
        "small ImageNet classifier, 8 fire modules",
        "Iandola et al., arXiv:1602.07360",
        resizable=True,
    ),
    _imagenet(
        "SqueezeNet 1.1",
        squeezenet.squeezenet_1_1,
        "SqueezeNet with 2.4 times less work",
        "Iandola et al., github.com/forresti/SqueezeNet",
        resizable=True,
    ),
    _imagenet(
        "MobileNet v1",
        mobilenet.mobilenet_v1,
        "mobile ImageNet classifier, depthwise-separable convolutions",
        "Howard et al., arXiv:1704.04861",
        resizable=True,
    ),
    _imagenet(
        "MobileNet v2",
        mobilenet.mobilenet_v2,
        "mobile ImageNet classifier, inverted residuals",
        "Sandler et al., CVPR 2018",
        resizable=True,
    ),
    _imagenet(
        "ResNet-18",
        resnet.resnet18,
        "ImageNet classifier, basic blocks",
        "He et al., CVPR 2016",
        resizable=True,
    ),
    _imagenet(
        "ResNet-50",
        resnet.resnet50,
        "ImageNet classifier, bottlenecks (v1.5)",
        "He et al., CVPR 2016",
        resizable=True,
    ),
    _tiny("ResNet-8", tiny.resnet8, 32, "object among CIFAR-10's 10, for microcontrollers", resizable=True),
    _tiny(
        "MobileNet v1 0.25",
        tiny.mobilenet_v1_quarter,
        96,
        "whether an image shows a person, for microcontrollers",
        resizable=True,
    ),
    _tiny("DS-CNN", tiny.ds_cnn, 49, "one of 12 keywords in a second of sound", resizable=False),
    _tiny("ToyADMOS autoencoder", tiny.autoencoder, 640, "anomalies in a machine's sound", resizable=False),
)

NETWORKS: Mapping[str, NetworkEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Name to entry; nothing is built before :func:`build` asks for it."""


def _key(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).casefold()


_BY_KEY = {_key(name): name for name in NETWORKS}


def names() -> tuple[str, ...]:
    """The names of all networks, EdgeCaffe's first."""
    return tuple(NETWORKS)


def split_name(name: str) -> tuple[str, int | None, int | None]:
    """Take ``name[@size][#batch]`` apart: catalogue name, input size, batch (None where not given).

    Raises UnknownNetworkError for a name that the catalogue lacks, ValueError for a size or batch that is not
    a positive whole number.
    """
    match = re.fullmatch(r"([^@#]*)(?:@([^@#]*))?(?:#([^@#]*))?", name.strip())
    if match is None:
        raise ValueError(f"network {name!r}: write name, name@size, name#batch or name@size#batch")
    base, size, batch = match.groups()
    canonical = _BY_KEY.get(_key(base))
    if canonical is None:
        near = difflib.get_close_matches(_key(base), _BY_KEY, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(_BY_KEY[k] for k in near)}?"
            if near
            else f"known: {', '.join(NETWORKS)}"
        )
        raise UnknownNetworkError(f"unknown network {base!r}; {hint}")
    return canonical, _number(name, "size", size), _number(name, "batch", batch)


def _number(name: str, what: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError(f"network {name!r}: the {what} is {text!r}, must be a positive whole number")
    return int(text)


def build(name: str, input_size: int | None = None, batch: int | None = None) -> Network:
    """The network of that name, for a square input of ``input_size`` pixels and ``batch`` images.

    The result is shared between calls. Its name carries what differs from the default (``FaceNet@1340``).
    Raises UnknownNetworkError for an unknown name; ValueError for a size the network cannot take, or a size
    or batch given twice with different values.
    """
    canonical, named_size, named_batch = split_name(name)
    entry = NETWORKS[canonical]
    size = _one_of(name, "input_size", named_size, input_size, entry.input_size)
    count = _one_of(name, "batch", named_batch, batch, entry.batch)
    if size != entry.input_size and not entry.resizable:
        raise ValueError(
            f"network {canonical!r} takes {entry.input_size} px, not {size}: its fully-connected layers "
            f"fix the size; any size: {', '.join(e.name for e in _ENTRIES if e.resizable)}"
        )
    return _build(canonical, size, count)


def _one_of(name: str, what: str, named: int | None, given: int | None, default: int) -> int:
    if named is not None and given is not None and named != given:
        raise ValueError(f"network {name!r}: {what} is {given}, but the name says {named}")
    value = next((v for v in (given, named) if v is not None), default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"network {name!r}: {what} is {value!r}, must be a whole number of at least 1")
    return value


@lru_cache(maxsize=256)
def _build(canonical: str, input_size: int, batch: int) -> Network:
    entry = NETWORKS[canonical]
    label = canonical
    if input_size != entry.input_size:
        label += f"@{input_size}"
    if batch != entry.batch:
        label += f"#{batch}"
    network = entry.make(input_size, batch)
    return dataclasses.replace(network, name=label, description=entry.description, source=entry.source)

"""Primitives of layers other than convolutions against plain sums in double precision."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from edgesched.primitives.arena import Arena
from edgesched.primitives.layers.catalogue import (
    LIBRARY,
    UnknownLayerPrimitiveError,
    candidates,
    primitive,
)
from edgesched.primitives.layers.layer import LayerPrimitive, LayerShape, laid_out, layer_shape
from edgesched.primitives.layouts import LAYOUTS, as_chw, in_layout
from edgesched.primitives.primitive import NotApplicable
from edgesched.primitives.shape import ShapeError
from edgesched.workloads import catalogue
from edgesched.workloads.builder import GraphBuilder

RNG = np.random.default_rng(7)


def window(kernel: int, stride: int, pad: int, average: bool) -> tuple[tuple[str, int], ...]:
    return tuple(
        {
            "kernel_h": kernel,
            "kernel_w": kernel,
            "stride": stride,
            "pad": pad,
            "average": int(average),
        }.items()
    )


def stored(chw: np.ndarray, layout: str) -> np.ndarray:
    if chw.ndim != 3:
        return chw.astype(np.float32)
    out = np.empty(in_layout(chw.shape, layout), np.float32)
    as_chw(out, layout)[...] = chw
    return out


def computed(
    chosen: LayerPrimitive, shape: LayerShape, inputs: list[np.ndarray], weights: dict[str, np.ndarray]
) -> np.ndarray:
    """The result in chw; ``out`` begins as nonsense, and the arena has what the formula says and no more."""
    chosen.check(shape)
    layout = chosen.in_layout
    own = chosen.prepare({name: w.astype(np.float32) for name, w in weights.items()}, shape)
    assert own.shape == (chosen.weight_elements(shape),)
    out = np.full(laid_out(shape.output, layout), np.nan, np.float32)
    arena = Arena(chosen.workspace_bytes(shape))
    chosen.run([stored(each, layout) for each in inputs], own, out, shape, arena)
    assert arena.high_water_bytes == chosen.workspace_bytes(shape)
    return as_chw(out, layout) if out.ndim == 3 else out


def pooled(image: np.ndarray, out: tuple[int, ...], kernel: int, stride: int, pad: int, average: bool):
    """Every window in turn."""
    result = np.empty(out)
    for y in range(out[1]):
        for x in range(out[2]):
            top, left = y * stride - pad, x * stride - pad
            seen = image[:, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            result[:, y, x] = seen.mean((1, 2)) if average else seen.max((1, 2))
    return result


def all_layouts(op: str) -> list[LayerPrimitive]:
    found = [each for each in LIBRARY.values() if each.op == op]
    assert found
    return found


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    ("sides", "out", "kernel", "stride", "pad"),
    [
        ((5, 12, 9), (5, 6, 5), 3, 2, 1),
        ((3, 13, 13), (3, 6, 6), 3, 2, 0),
        ((3, 14, 11), (3, 7, 5), 3, 2, 0),  # the height rounded up, the last window cut
        ((17, 7, 7), (17, 7, 7), 3, 1, 1),
        ((4, 10, 10), (4, 4, 4), 2, 3, 0),
        ((6, 5, 5), (6, 1, 1), 5, 1, 0),
        ((2, 6, 5), (2, 3, 3), 3, 2, 1),
    ],
)
def test_pooling(sides, out, kernel: int, stride: int, pad: int, average: bool) -> None:
    image = RNG.standard_normal(sides) - 3  # zeros of a padding would be seen by a maximum
    shape = LayerShape("pooling", (sides,), out, 0, window(kernel, stride, pad, average))
    wanted = pooled(image, out, kernel, stride, pad, average)
    for each in all_layouts("pooling"):
        np.testing.assert_allclose(computed(each, shape, [image], {}), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
@pytest.mark.parametrize("sides", [(7, 4, 5), (3, 40, 41), (2, 1, 1)])
def test_lrn(size: int, sides) -> None:
    image = 30 * RNG.standard_normal(sides)
    wanted = np.empty(sides)
    for c in range(sides[0]):
        first = c - (size - 1) // 2
        squares = image[max(first, 0) : first + size] ** 2
        wanted[c] = image[c] / (1 + 1e-4 / size * squares.sum(0)) ** 0.75
    shape = LayerShape("lrn", (sides,), sides, 0, (("local_size", size),))
    for each in all_layouts("lrn"):
        np.testing.assert_allclose(computed(each, shape, [image], {}), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sides", [(5, 3, 4), (6,)])
def test_rectifier_and_those_that_do_nothing(sides) -> None:
    image = RNG.standard_normal(sides)
    for op, wanted in (("relu", np.where(image > 0, image, 0)), ("dropout", image), ("split", image)):
        shape = LayerShape(op, (sides,), sides)
        chosen = candidates(shape)
        assert [each.in_layout for each in chosen] == list(LAYOUTS if len(sides) == 3 else ("chw",))
        for each in chosen:
            np.testing.assert_allclose(computed(each, shape, [image], {}), wanted, rtol=1e-6)


@pytest.mark.parametrize("op", ["batch-norm", "scale"])
@pytest.mark.parametrize("sides", [(5, 3, 4), (6,)])
def test_normalisation(op: str, sides) -> None:
    image = RNG.standard_normal(sides)
    weights = {name: RNG.standard_normal(sides[0]) for name in ("factor", "shift", "mean")}
    weights["variance"] = RNG.uniform(0.5, 2, sides[0])
    per_channel = {name: w.reshape(-1, *[1] * (len(sides) - 1)) for name, w in weights.items()}
    wanted = (image - per_channel["mean"]) / np.sqrt(per_channel["variance"] + 1e-5)
    wanted = wanted * per_channel["factor"] + per_channel["shift"]
    shape = LayerShape(op, (sides,), sides, 4 * sides[0])
    chosen = candidates(shape)
    assert chosen
    for each in chosen:
        np.testing.assert_allclose(computed(each, shape, [image], weights), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sides", [(5, 3, 4), (6,)])
def test_in_place_gives_the_same(sides) -> None:
    image = RNG.standard_normal(sides)
    weights = {name: np.ones(sides[0], np.float32) * at for at, name in enumerate(WEIGHTS, start=2)}
    tried = 0
    for each in LIBRARY.values():
        shape = LayerShape(each.op, (sides,), sides)
        if not each.in_place or each.refuses(shape):
            continue
        own = each.prepare(weights, shape)
        apart = np.empty(laid_out(sides, each.in_layout), np.float32)
        each.run([stored(image, each.in_layout)], own, apart, shape, Arena(0))
        together = stored(image, each.in_layout).copy()
        each.run([together], own, together, shape, Arena(0))
        np.testing.assert_array_equal(together, apart)
        tried += 1
    assert tried == (18 if len(sides) == 3 else 8)


WEIGHTS = ("factor", "shift", "mean", "variance")


def test_joining() -> None:
    images = [RNG.standard_normal((channels, 4, 5)) for channels in (3, 1, 6)]
    shape = LayerShape("concat", tuple(each.shape for each in images), (10, 4, 5))
    for each in all_layouts("concat"):
        wanted = np.concatenate(images).astype(np.float32)
        np.testing.assert_array_equal(computed(each, shape, images, {}), wanted)
    a, b = RNG.standard_normal((2, 3, 4, 5))
    shape = LayerShape("add", (a.shape, b.shape), a.shape)
    for each in all_layouts("add"):
        np.testing.assert_allclose(computed(each, shape, [a, b], {}), a + b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_fully_connected(bias: bool) -> None:
    image = RNG.standard_normal((3, 4, 5))
    weights = {"weight": RNG.standard_normal((7, 60))}
    wanted = weights["weight"] @ image.reshape(-1)
    if bias:
        weights["bias"] = RNG.standard_normal(7)
        wanted += weights["bias"]
    shape = LayerShape("fully-connected", ((3, 4, 5),), (7,), 420 + 7 * bias)
    (only,) = candidates(shape)
    np.testing.assert_allclose(computed(only, shape, [image], weights), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sides", [(9, 2, 3), (1000, 1, 1), (11,)])
def test_softmax(sides) -> None:
    image = 90 * RNG.standard_normal(sides)
    exponentials = np.exp(image - image.max(0))
    shape = LayerShape("softmax", (sides,), sides)
    for each in candidates(shape):
        found = computed(each, shape, [image], {})
        np.testing.assert_allclose(found, exponentials / exponentials.sum(0), rtol=1e-4, atol=1e-7)


def test_flatten_keeps_the_order_of_chw() -> None:
    image = RNG.standard_normal((3, 2, 4))
    (only,) = candidates(LayerShape("flatten", ((3, 2, 4),), (24,)))
    found = computed(only, LayerShape("flatten", ((3, 2, 4),), (24,)), [image], {})
    np.testing.assert_array_equal(found, image.reshape(-1).astype(np.float32))


def test_what_cannot_be_computed_says_why() -> None:
    vector = LayerShape("softmax", ((10,),), (10,))
    with pytest.raises(NotApplicable, match=r"softmax-hwc.*only images have layouts"):
        primitive("softmax-hwc").check(vector)
    with pytest.raises(NotApplicable, match="weights"):
        primitive("fully-connected-chw").check(LayerShape("fully-connected", ((4,),), (3,), 10))
    with pytest.raises(NotApplicable, match="not known"):
        primitive("pooling-chw").check(LayerShape("pooling", ((3, 4, 4),), (3, 2, 2)))
    outside = LayerShape("pooling", ((3, 4, 4),), (3, 3, 3), 0, window(2, 2, 0, False))
    with pytest.raises(NotApplicable, match="outside"):
        primitive("pooling-chw").check(outside)
    with pytest.raises(UnknownLayerPrimitiveError, match="did you mean pooling-hwc"):
        primitive("poolin-hwc")
    assert candidates(LayerShape("NonMaxSuppression", ((4,),), (4,))) == ()
    graph = GraphBuilder("one")
    graph.input("data", (1, 3, 8, 8)).conv("conv", 4, 3)
    with pytest.raises(ShapeError, match="is a convolution"):
        layer_shape(graph.build(), 1)


@pytest.mark.parametrize("name", ["AlexNet", "GoogLeNet", "ResNet-18", "MobileNet v2", "SqueezeNet 1.0"])
def test_every_other_layer_of_a_network_has_a_primitive(name: str) -> None:
    network = catalogue.build(name)
    for index, layer in enumerate(network.layers):
        if layer.op in ("convolution", "depthwise"):
            continue
        found = candidates(layer_shape(network, index))
        images = len(layer.output_shape) == 4 and layer.op != "input"
        assert [each.in_layout for each in found] == list(LAYOUTS if images else ("chw",)), layer.name


def test_nothing_that_grows_with_the_tensor_is_made() -> None:
    sides = (16, 64, 64)  # 256 KB
    shapes = [
        LayerShape("pooling", (sides,), (16, 32, 32), 0, window(3, 2, 1, False)),
        LayerShape("pooling", (sides,), (16, 32, 32), 0, window(3, 2, 1, True)),
        LayerShape("add", (sides, sides), sides),
        LayerShape("concat", (sides, sides), (32, 64, 64)),
        LayerShape("fully-connected", (sides,), (8,), 8 * 16 * 64 * 64 + 8),
        *(LayerShape(op, (sides,), sides) for op in ("lrn", "relu", "batch-norm", "dropout", "softmax")),
    ]
    weights = {name: np.ones(16, np.float32) for name in WEIGHTS}
    weights |= {"weight": np.ones((8, 16 * 64 * 64), np.float32), "bias": np.ones(8, np.float32)}
    for shape in shapes:
        for each in candidates(shape):
            inputs = [np.ones(laid_out(s, each.in_layout), np.float32) for s in shape.inputs]
            out = np.empty(laid_out(shape.output, each.in_layout), np.float32)
            own = each.prepare(weights, shape)
            arena = Arena(each.workspace_bytes(shape))
            each.run(inputs, own, out, shape, arena)  # compiles
            tracemalloc.start()
            try:
                each.run(inputs, own, out, shape, arena)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 8192, each.name

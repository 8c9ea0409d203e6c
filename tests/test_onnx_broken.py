"""ONNX files that are broken in every way we could think of: one clear error each."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from protos import FLOAT, branching, function, info, model, stored, with_functions

from edgesched.workloads import onnx_graph
from edgesched.workloads.network import Network
from edgesched.workloads.onnx_import import OnnxImportError, load, load_with_report

onnx = pytest.importorskip("onnx", reason="needs the extra edgesched[onnx]")
from onnx import TensorProto, helper  # noqa: E402


def conv(**changes: Any) -> Any:
    shapes = {"x": (1, 4, 8, 8), "w": (4, 4, 3, 3)} | changes.pop("shapes", {})
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", **changes)
    return model([node], [info("x", shapes["x"])], [info("y", None)], [stored("w", shapes["w"])])


def relu(inputs: Sequence[Any], *edges: tuple[str, str], weights: Sequence[Any] = ()) -> Any:
    nodes = [helper.make_node("Relu", [a] if a else [], [b] if b else []) for a, b in edges]
    return model(nodes, inputs, [info(edges[-1][1] or "y", None)], weights)


X = [info("x", [1, 4])]
WRONG_DATA = TensorProto(name="w", dims=[4], data_type=FLOAT, raw_data=b"123")
NO_OPSET = onnx.ModelProto.FromString(branching().SerializeToString())
NO_OPSET.ClearField("opset_import")

POOL = model(
    [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[-1, 2])],
    [info("x", [1, 1, 4, 4])],
    [info("y", None)],
)

BROKEN = {
    "empty": (b"", "is empty"),
    "garbage": (b"\x93NUMPY not a model at all \xff\xfe" * 20, "is not an ONNX file, or is damaged"),
    "text": (b"hello, world\n", "is not an ONNX"),
    "cut": (branching().SerializeToString()[:-40], "damaged or cut short"),
    "cut early": (branching().SerializeToString()[:9], "not an ONNX"),
    "another protobuf": (branching().graph.node[0].SerializeToString(), "not an ONNX"),
    "a tensor": (helper.make_tensor("t", FLOAT, [2], [1, 2]).SerializeToString(), "not an ONNX"),
    "no opset": (NO_OPSET, "which operator set"),
    "no nodes": (model([], X, [info("x", [1, 4])]), "no nodes"),
    "nothing to run": (relu([], ("w", "y"), weights=[stored("w", (3,))]), "no node depends on an input"),
    "cycle": (relu(X, ("b", "a"), ("a", "b")), "has a cycle through node 'a' \\(Relu\\)"),
    "reads itself": (relu(X, ("y", "y")), "has a cycle"),
    "missing input": (relu(X, ("x", "a"), ("ghost", "y")), "reads 'ghost', which no input"),
    "missing output": (
        model([helper.make_node("Relu", ["x"], ["a"])], X, [info("y", None)]),
        "output 'y' is produced",
    ),
    "twice": (relu(X, ("x", "y"), ("x", "y")), "tensor 'y' is defined twice"),
    "input overwritten": (relu(X, ("x", "x")), "tensor 'x' is defined twice"),
    "same input twice": (relu([*X, *X], ("x", "y")), "tensor 'x' is defined twice"),
    "no output": (relu(X, ("x", "y"), ("x", "")), "has no output"),
    "negative side": (
        conv(shapes={"x": (1, 4, -8, 8)}),
        r"input 'x' has shape \[1, 4, -8, 8\]; sides must be",
    ),
    "zero side": (conv(shapes={"x": (0, 4, 8, 8)}), "sides must be at least 1"),
    "enormous side": (
        conv(shapes={"x": (1, 4, 2**62, 8)}),
        "input 'x' has dimensions .* more than 1099511627776 bytes",
    ),
    "many sides": (conv(shapes={"x": (1,) * 5000}), "input 'x' has dimensions"),
    "negative weight": (conv(shapes={"w": (4, 4, 3, -3)}), "initializer 'w' has dimensions .* negative"),
    "enormous weight": (conv(shapes={"w": (2**40, 2**40)}), "initializer 'w' has dimensions"),
    "enormous output": (
        conv(shapes={"x": (2**20, 4, 99, 99), "w": (2**13, 4, 3, 3)}),
        "tensor 'y' has dimensions",
    ),
    "wrong data": (
        relu(X, ("w", "y"), weights=[WRONG_DATA]),
        "'w' of dimensions \\[4\\] needs 16 bytes, but holds 3",
    ),
    "strange type": (relu(X, ("x", "y"), weights=[stored("w", (3,), 99)]), "unknown data type 99"),
    "text not UTF-8": (branching().SerializeToString().replace(b"pool", b"p\xff\xffl"), "is not UTF-8"),
    "channels": (conv(shapes={"w": (4, 5, 3, 3)}), "node 'c' \\(Conv\\)"),
    "groups": (conv(group=0), "node 'c' \\(Conv\\)"),
    "groups of three": (conv(group=3), "node 'c' \\(Conv\\)"),
    "stride": (conv(strides=[0, 0]), "node 'c' \\(Conv\\)"),
    "kernel too big": (conv(shapes={"w": (4, 4, 9, 9)}), "its input is too small"),
    "rank": (conv(shapes={"w": (4, 4, 3)}), "node 'c' \\(Conv\\)"),
    "no filter": (model([helper.make_node("Conv", ["x"], ["y"])], X, [info("y", None)]), "lacks input 1"),
    "no operand": (relu(X, ("x", "a"), ("", "y")), "its shapes cannot be inferred"),
    "no shape": (
        relu([info("x", None)], ("x", "y")),
        "input 'x' is not a tensor of numbers with a known shape",
    ),
    "text input": (relu([info("x", [1], TensorProto.STRING)], ("x", "y")), "is not a tensor of numbers"),
    "pool": (POOL, "node 'y' \\(MaxPool\\) cannot be costed"),
    "empty constant": (
        model([helper.make_node("Constant", [], ["y"])], X, [info("y", None)]),
        "one output and one value",
    ),
    "recursion": (with_functions(function("f0", "f1"), function("f1", "f0")), "calls itself"),
    "explosion": (
        with_functions(*(function(f"f{i}", *[f"f{i + 1}"] * 10) for i in range(9)), function("f9", "Relu")),
        "more than the limit of 100000",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_one_clear_error(case: str, saved: Callable[[Any], Path]) -> None:
    content, message = BROKEN[case]
    with pytest.raises(OnnxImportError, match=message) as caught:
        load(saved(content))
    assert str(caught.value).startswith(str(saved(content)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, ValueError)


def test_a_directory_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OnnxImportError, match="is a directory"):
        load(tmp_path)
    with pytest.raises(OnnxImportError, match=r"nothing\.onnx: no such file"):
        load(tmp_path / "nothing.onnx")


def test_files_and_models_beyond_the_limits(
    saved: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(branching())
    monkeypatch.setattr(onnx_graph, "MAX_NODES", 5)
    with pytest.raises(OnnxImportError, match="has 8 nodes, more than the limit of 5"):
        load(path)
    monkeypatch.setattr(onnx_graph, "MAX_FILE_BYTES", 100)
    with pytest.raises(OnnxImportError, match="store the weights as external data"):
        load(path)


def test_no_cut_or_flipped_byte_escapes_as_another_exception(saved: Callable[[Any], Path]) -> None:
    whole = branching().SerializeToString()
    generator = random.Random(7)
    cases = [whole[:length] for length in range(len(whole))]
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        cases.append(bytes(damaged))
    outcomes = set()
    for case in cases:
        path = saved(case)
        try:
            outcomes.add(type(load_with_report(path)[0]))
        except OnnxImportError as error:
            assert "\n" not in str(error)  # noqa: PT017
            outcomes.add(OnnxImportError)
    assert outcomes == {Network, OnnxImportError}

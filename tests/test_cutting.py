"""Networks are cut into layers, and their activations laid out in one arena."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesched.bridge.bundles.arena import Span, live_bytes, place

pytest.importorskip("onnx", reason="needs the extra edgesched[bridge]")
from onnx import helper

from edgesched.bridge.bundles.slicing import cut


def node(kind: str, inputs: str, output: str, domain: str = "") -> Any:
    return helper.make_node(kind, inputs.split(), [output], name=output, domain=domain)


def test_cutting() -> None:
    """Views join what they read; what reads only inputs or stored tensors joins its first reader."""
    nodes = [
        node("ReorderInput", "x", "blocked", "com.microsoft.nchwc"),
        node("Transpose", "stored", "turned"),
        node("Conv", "blocked stored", "c1"),
        node("Conv", "blocked turned", "c2"),
        node("Reshape", "c1 c2", "view"),
        node("Flatten", "view", "flat"),
        node("Add", "c1 flat", "sum"),
    ]
    pieces = cut(nodes, {"stored"}, {"sum"})
    assert [[n.name for n in piece.nodes] for piece in pieces] == [
        ["blocked", "c1"],
        ["turned", "c2", "view", "flat"],
        ["sum"],
    ]
    assert [piece.inputs for piece in pieces] == [("x",), ("blocked", "c1"), ("c1", "flat")]
    assert [piece.outputs for piece in pieces] == [("blocked", "c1"), ("flat",), ("sum",)]
    assert [piece.constants for piece in pieces] == [("stored",), ("stored",), ()]


SPANS = st.lists(
    st.builds(
        lambda size, first, length: Span(size, first, first + length),
        st.integers(0, 2000),
        st.integers(0, 30),
        st.integers(0, 8),
    ),
    max_size=40,
)


@given(SPANS)
def test_what_lives_together_never_overlaps(spans: list[Span]) -> None:
    offsets, end = place(spans)
    for i, span in enumerate(spans):
        assert offsets[i] % 64 == 0
        assert offsets[i] + span.size_bytes <= end
        for j in range(i):
            if span.meets(spans[j]) and span.size_bytes and spans[j].size_bytes:
                apart = offsets[i] + span.size_bytes <= offsets[j]
                assert apart or offsets[j] + spans[j].size_bytes <= offsets[i]
    assert live_bytes(spans) <= end


def test_a_chain_needs_two_buffers() -> None:
    spans = [Span(640, i, i + 1) for i in range(10)]
    assert place(spans)[1] == live_bytes(spans) == 1280

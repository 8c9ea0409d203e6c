"""What a node of an optimised graph was in the original one: its name, operation class and work.

Optimisation fuses, renames and pads. onnxruntime keeps a trace in names: a fused node is called
``fused <name>`` after the node it absorbed, one in blocked layout ``<tensor>_nchwc`` after the original
tensor, and tensors that the optimiser did not touch keep theirs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ...workloads.onnx_graph import DEFAULT_DOMAINS, OnnxGraph, operator
from ...workloads.onnx_import import CONVOLUTIONS, OTHER_OPS, PRODUCTS
from .slicing import NCHWC_DOMAIN

RUNTIME_DOMAINS = (NCHWC_DOMAIN, "com.microsoft")
"""Where onnxruntime has its variants of standard operators, under the same names or ``Fused`` before them."""

MAX_FUSED = 8
"""Longest chain of original nodes that one optimised node is searched in."""

ShapeOf = Callable[[str], tuple[int, ...] | None]


@dataclass(frozen=True)
class Origin:
    """An original node; ``op`` and ``macs`` as in ``workloads.network.Layer``, 0 macs where unknown."""

    name: str
    op: str
    macs: int


def classify(node: Any, shape_of: ShapeOf, stored: Collection[str]) -> tuple[str, int]:
    """Operation class and multiply-accumulates of a node, original or optimised.

    One of ``network.OPS``, or the operator's own name. Work counts for convolutions and matrix products of
    known shapes, by the formulas of ``workloads.onnx_import``; it is 0 elsewhere.
    """
    kind = operator(node)
    plain = node.op_type.removeprefix("Fused")
    if node.domain in RUNTIME_DOMAINS and plain in CONVOLUTIONS | PRODUCTS | OTHER_OPS:
        kind = plain
    if kind in CONVOLUTIONS:
        data, weights = (shape_of(node.input[position]) for position in CONVOLUTIONS[kind])
        grid = data if kind == "ConvTranspose" else shape_of(node.output[0])
        groups = _integer(node, "group", 1)
        depthwise = data is not None and len(data) > 1 and groups == data[1] > 1
        macs = 0 if grid is None or weights is None else math.prod(grid) * math.prod(weights[1:])
        return ("depthwise" if depthwise else "convolution"), macs
    if kind in PRODUCTS:
        left, right = (shape_of(node.input[position]) for position in PRODUCTS[kind])
        result = shape_of(node.output[0])
        if not left or not right or result is None:
            return "fully-connected", 0
        inner = left[0] if _integer(node, "transA", 0) else left[-1]
        return "fully-connected", math.prod(result) * inner
    if kind == "Mul" and any(name in stored for name in node.input):
        return "scale", 0
    return OTHER_OPS.get(kind, kind), 0


class Origins:
    """The nodes of the original graph by name and by tensor."""

    def __init__(self, graph: OnnxGraph) -> None:
        def shape_of(name: str) -> tuple[int, ...] | None:
            return graph.types[name].shape if name in graph.types else None

        self.origins: list[Origin] = []
        self.by_name: dict[str, int] = {}
        self.by_tensor: dict[str, int] = {}
        self.producers: list[list[int]] = []
        for index, node in enumerate(graph.nodes):
            op, macs = "", 0
            if node.domain in DEFAULT_DOMAINS:
                op, macs = classify(node, shape_of, graph.stored_bytes)
            self.origins.append(Origin(node.name or next(filter(None, node.output)), op, macs))
            self.producers.append([self.by_tensor[name] for name in node.input if name in self.by_tensor])
            if node.name:
                self.by_name.setdefault(node.name, index)
            self.by_tensor.update((name, index) for name in node.output if name)

    def of(self, node: Any, op: str) -> Origin | None:
        """The original of an optimised node of class ``op``.

        Of a chain that was fused, the node of that class (the convolution, not its rectifier); a node of
        another class where the chain has none; None where no name leads back.
        """
        start = self._start(node)
        if start is None:
            return None
        wanted = _family(op)
        chain = [start]
        for index in chain:
            if _family(self.origins[index].op) == wanted:
                return self.origins[index]
            if len(chain) < MAX_FUSED:
                chain.extend(other for other in self.producers[index] if other not in chain)
        return Origin(self.origins[start].name, op, 0)

    def _start(self, node: Any) -> int | None:
        name = re.sub(r"_token_\d+$", "", node.name).removeprefix("fused ")
        tensor = name.removesuffix("_nchwc")
        candidates = [self.by_name.get(name)] if name else []
        candidates += [self.by_tensor.get(each) for each in (tensor, *node.output) if each]
        return next((index for index in candidates if index is not None), None)


def _family(op: str) -> str:
    """A depthwise convolution may become a plain one, and the other way round."""
    return "convolution" if op == "depthwise" else op


def _integer(node: Any, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)

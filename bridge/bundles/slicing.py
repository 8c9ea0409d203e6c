"""Cut an optimised graph into layers.

A layer is one node that computes, with the nodes beside it that only view, count or re-order: those join the
layer whose output they read, and where they read none (the network's input in another layout, a weight that
is decoded), the first layer that reads them. Layers stand in the order of their computing nodes, so each one
reads only what earlier ones wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...workloads.onnx_graph import read_names

NCHWC_DOMAIN = "com.microsoft.nchwc"
"""Operators of onnxruntime whose channels lie in blocks as wide as a vector register."""

JOINING = frozenset(
    {
        *(("", op) for op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")),
        *(("", op) for op in ("Shape", "Size", "ConstantOfShape")),
        *((NCHWC_DOMAIN, op) for op in ("ReorderInput", "ReorderOutput")),
    }
)
"""Domain and operator of what is no layer of its own."""


@dataclass(frozen=True)
class Piece:
    """The nodes of one layer in order. ``main`` gives it its name and operation class."""

    main: Any
    nodes: tuple[Any, ...]
    inputs: tuple[str, ...]
    """Tensors of other layers or of the network's inputs."""
    constants: tuple[str, ...]
    """Stored tensors that its nodes read."""
    outputs: tuple[str, ...]
    """Its tensors that other layers read or that the network returns."""


def cut(nodes: Sequence[Any], stored: Collection[str], outputs: Collection[str]) -> list[Piece]:
    """Layers of a graph: ``nodes`` (onnx NodeProto) in topological order, stored tensors, its outputs."""
    return _Cutter(nodes, frozenset(stored)).pieces(outputs)


class _Cutter:
    def __init__(self, nodes: Sequence[Any], stored: frozenset[str]) -> None:
        self.nodes = nodes
        self.stored = stored
        self.mains: list[int] = []
        self.home: dict[int, int] = {}
        """Node to its layer."""
        self.producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}

    def pieces(self, outputs: Collection[str]) -> list[Piece]:
        for index, node in enumerate(self.nodes):
            if self.is_layer(node):
                self.settle(index, None)
            elif homes := self.homes_read(index):
                self.settle(index, max(homes))
        for index in range(len(self.nodes)):  # what no layer reads: the network returns it
            if index not in self.home:
                self.settle(index, max(self.homes_read(index), default=None))
        return self.collect(outputs)

    def reads(self, index: int) -> Iterable[str]:
        """Activations that a node reads."""
        return (name for name in read_names(self.nodes[index]) if name not in self.stored)

    def producers(self, index: int) -> set[int]:
        """Nodes whose outputs a node reads."""
        return {self.producer[name] for name in self.reads(index) if name in self.producer}

    def homes_read(self, index: int) -> set[int]:
        """Layers whose outputs a node reads."""
        return {self.home[other] for other in self.producers(index) if other in self.home}

    def is_layer(self, node: Any) -> bool:
        domain = "" if node.domain == "ai.onnx" else node.domain
        return (domain, node.op_type) not in JOINING and any(
            name not in self.stored for name in read_names(node)
        )

    def settle(self, index: int, layer: int | None) -> None:
        """Put a node, and what it reads that has no layer yet, into ``layer``; None opens a new one."""
        if layer is None:
            layer = len(self.mains)
            self.mains.append(index)
        waiting = [index]
        while waiting:
            node = waiting.pop()
            self.home[node] = layer
            waiting.extend(other for other in self.producers(node) if other not in self.home)

    def collect(self, outputs: Collection[str]) -> list[Piece]:
        members: list[list[int]] = [[] for _ in self.mains]
        for index in range(len(self.nodes)):
            members[self.home[index]].append(index)
        wanted = set(outputs)
        for index, layer in self.home.items():
            wanted.update(n for n in self.reads(index) if self.layer_of(n) not in (layer, None))
        pieces = []
        for main, indices in zip(self.mains, members, strict=True):
            nodes = tuple(self.nodes[index] for index in indices)
            written = [name for node in nodes for name in node.output if name]
            read = dict.fromkeys(name for node in nodes for name in read_names(node))
            pieces.append(
                Piece(
                    main=self.nodes[main],
                    nodes=nodes,
                    inputs=tuple(n for n in read if n not in self.stored and n not in set(written)),
                    constants=tuple(n for n in read if n in self.stored),
                    outputs=tuple(name for name in written if name in wanted),
                )
            )
        return pieces

    def layer_of(self, name: str) -> int | None:
        return self.home[self.producer[name]] if name in self.producer else None

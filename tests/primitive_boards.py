"""Boards for tests of planning policies: made-up primitive profiles of real networks, written to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planning_options import every_option

from edgesched.primitives.catalogue import LIBRARY
from edgesched.primitives.shape import CONVOLUTIONS, conv_shape, layer_key, tensor_key
from edgesched.traces.primitives import PrimitiveProfile, PrimitiveRow, write_primitives
from edgesched.workloads import catalogue

SPEED = {"direct": 0.2, "im2col": 0.7, "im2row": 0.8, "strip": 0.6, "kn2": 0.65, "winograd2d": 1.0}
"""Of a primitive's multiplications, relative to the fastest family; others 0.3."""
RATE = 1e9
"""Multiplications per second at speed 1."""


def write_profile(names: Sequence[str], path: Path) -> Path:
    """A primitive profile of the networks whose times follow from multiplications; returns ``path``."""
    rows: dict[tuple[str, str], PrimitiveRow] = {}
    for name in names:
        options = every_option(catalogue.build(name))
        network = options.network
        for index, (layer, own) in enumerate(zip(network.layers, options.layers, strict=True)):
            if layer.op == "input":
                continue
            key = layer_key(network, index)
            for each in own:
                seconds = 1e-5
                if layer.op in CONVOLUTIONS:
                    primitive = LIBRARY[each.primitive]
                    speed = SPEED.get(primitive.family, 0.3)
                    seconds += primitive.multiplies(conv_shape(network, index)) / (RATE * speed)
                rows[key, each.primitive] = PrimitiveRow(
                    key,
                    each.primitive,
                    each.in_layout,
                    each.out_layout,
                    seconds,
                    workspace_bytes=each.workspace_bytes,
                    weight_bytes=each.weight_bytes,
                )
        for layer, transforms in zip(network.layers, options.transform_s, strict=True):
            key = tensor_key(layer.output_shape[1:])
            for (before, after), seconds in transforms.items():
                name_of = f"{before}-to-{after}"
                rows[key, name_of] = PrimitiveRow(key, name_of, before, after, seconds)
    write_primitives(PrimitiveProfile(tuple(rows.values()), {"source": "made up for tests"}), path)
    return path


def write_board(folder: Path, names: Sequence[str], *, memory: str = "", cores: int = 2) -> Path:
    """A board with such a profile, weights that leave with their layer, and no overheads."""
    write_profile(names, folder / "primitives.csv")
    board = folder / "board.yaml"
    board.write_text(
        f"""name: made-up
processors: [{{name: cpu, cores: {cores}}}]
memory: {{total_bytes: {1 << 33}{memory}}}
runtime: {{weights_lifetime: layer, outputs_lifetime: arena, load_copies: false}}
cost: {{primitives: primitives.csv, load_byte_s: 1.0e-8}}
""",
        encoding="utf-8",
    )
    return board

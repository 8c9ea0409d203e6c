"""``edgesched primitives list|show``: what a convolution may be computed with, and what that takes."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .terminal import console, significant, size, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..primitives.primitive import Primitive
    from ..primitives.shape import ConvShape

app = typer.Typer(
    name="primitives", no_args_is_help=True, help="Primitives: implementations of a convolution."
)

SHAPE_HELP = "A convolution, C x H x W, kernels, kernel side: '64x56x56 m64 k3'; and s1 p1 g1."
EXAMPLES = (
    "3x227x227 m96 k11 s4 p0 g1",
    "64x56x56 m64 k3 s1 p1 g1",
    "64x56x56 m128 k3 s2 p1 g1",
    "96x27x27 m256 k5 s1 p2 g1",
    "256x28x28 m64 k1 s1 p0 g1",
    "128x28x28 m128 k3 s1 p1 g128",
)
"""Shapes that ``show`` tells about where none is asked for."""
PROBES = {
    "1x1": "8x16x16 m8 k1",
    "3x3": "8x16x16 m8 k3",
    "5x5": "8x16x16 m8 k5",
    "7x7": "8x16x16 m8 k7",
    "s2": "8x16x16 m8 k3 s2",
    "g2": "8x16x16 m8 k3 g2",
    "dw": "8x16x16 m8 k3 g8",
}
"""What ``list`` tells of every primitive: whether it computes such a convolution."""
PROBED = "s2: 3x3 with stride 2, g2: with 2 groups, dw: depthwise"
_SHAPE = re.compile(r"\s*(\d{1,6})x(\d{1,6})x(\d{1,6})((?:[\s,]+[mkspg]\d{1,6})+)\s*")


def parse_shape(text: str) -> ConvShape:
    """``64x56x56 m64 k3 s1 p1 g1``; stride 1, one group and a padding of half the kernel go without saying.

    Raises ``InputError``, and ``ShapeError`` for numbers that make no convolution.
    """
    from ..devices.reading import InputError
    from ..primitives.shape import ConvShape

    match = _SHAPE.fullmatch(text.lower())
    parts = re.findall(r"([mkspg])(\d+)", match[4]) if match else []
    given = {letter: int(number) for letter, number in parts}
    if match is None or len(given) < len(parts) or not {"m", "k"} <= set(given):
        raise InputError(
            f"--shape {text[:80]!r}: write C x H x W and letters, each once: m kernels, k kernel side, and "
            f"where it differs s stride (1), p padding (half the kernel), g groups (1); e.g. {EXAMPLES[1]!r}"
        )
    return ConvShape(
        channels=int(match[1]),
        height=int(match[2]),
        width=int(match[3]),
        kernels=given["m"],
        kernel=given["k"],
        stride=given.get("s", 1),
        pad=given.get("p", given["k"] // 2),
        groups=given.get("g", 1),
    )


@app.command("list")
def list_primitives(
    network: Annotated[
        str | None,
        typer.Option(help="For the convolutions of a network of the catalogue.", show_default=False),
    ] = None,
    shape: Annotated[str | None, typer.Option(help=SHAPE_HELP, show_default=False)] = None,
) -> None:
    """All primitives, or those that compute a shape, or how many there are for each layer of a network."""
    from ..devices.reading import InputError
    from ..primitives.catalogue import LIBRARY

    if network is not None and shape is not None:
        raise InputError("--network and --shape: give one of them")
    screen = console()
    if network is not None:
        _list_layers(network)
    elif shape is not None:
        _list_for(parse_shape(shape))
    else:
        probes = [parse_shape(text) for text in PROBES.values()]
        rows = table("primitive", "family", "layouts", *PROBES)
        for each in LIBRARY.values():
            fits = ["x" if each.refuses(probe) is None else "" for probe in probes]
            rows.add_row(each.name, each.family, _layouts(each), *fits)
        screen.print(rows)
        screen.print(f"{len(LIBRARY)} primitives; {PROBED}")
        _print_packages(list(LIBRARY.values()))


@app.command("show")
def show_primitive(
    name: Annotated[str, typer.Argument(help="A primitive's name.", show_default=False)],
    shape: Annotated[str | None, typer.Option(help=SHAPE_HELP, show_default=False)] = None,
) -> None:
    """One primitive: layouts, what it computes, and multiplies, workspace and weights there."""
    from ..primitives.catalogue import primitive

    own = primitive(name)
    shapes = [parse_shape(text) for text in ((shape,) if shape is not None else EXAMPLES)]
    screen = console()
    screen.print(own.name, style="bold")
    facts = table("", "", wrap=("",))
    facts.show_header = False
    for key, value in (
        ("family", own.family),
        ("does", _said(own)),
        ("reads, writes", f"{own.in_layout}, {own.out_layout}"),
        ("needs", _packages(own) or "numpy only"),
    ):
        facts.add_row(key, value)
    screen.print(facts)
    screen.print()
    heads = ("multiplies", "workspace", "bytes", "weights")
    rows = table("shape", *heads, "", right=heads, wrap=("",))
    for each in shapes:
        why = own.refuses(each)
        if why is not None:
            rows.add_row(each.key, "", "", "", "", why)
            continue
        rows.add_row(
            each.key,
            _times_direct(own, each),
            size(own.workspace_bytes(each)),
            f"{own.workspace_bytes(each):,}",
            size(own.weight_bytes(each)),
            "",
        )
    screen.print(rows)
    screen.print("multiplies: over those of the direct algorithm; workspace and weights of one float32 image")


def _list_for(shape: ConvShape) -> None:
    """Those that compute the shape, least workspace first, and why the others do not."""
    from ..primitives.catalogue import LIBRARY, candidates

    screen = console()
    found = candidates(shape)
    screen.print(f"{shape.key}: {len(found)} of {len(LIBRARY)} primitives compute it", style="bold")
    heads = ("multiplies", "workspace", "weights")
    rows = table("primitive", "family", "layouts", *heads, right=heads, gap=1)
    for each in sorted(found, key=lambda own: own.workspace_bytes(shape)):
        rows.add_row(
            each.name,
            each.family,
            _layouts(each),
            _times_direct(each, shape),
            size(each.workspace_bytes(shape)),
            size(each.weight_bytes(shape)),
        )
    screen.print(rows)
    _print_packages(found)
    refused: dict[str, list[str]] = {}
    for each in LIBRARY.values():
        if (why := each.refuses(shape)) is not None:
            refused.setdefault(why, []).append(each.family)
    if refused:
        screen.print()
        others = table("do not compute it", "because", wrap=("do not compute it", "because"))
        for why, families in refused.items():
            others.add_row(_counted(families), why)
        screen.print(others)


def _list_layers(name: str) -> None:
    """The convolutions of a network, how many primitives each has, and the workspaces they take."""
    from ..primitives.catalogue import candidates
    from ..primitives.shape import CONVOLUTIONS, conv_shape
    from ..workloads import catalogue

    network = catalogue.build(name)
    heads = ("primitives", "workspace to")
    rows = table("layer", "shape", *heads, "families", right=heads, wrap=("families", "layer"))
    total = 0
    for index, layer in enumerate(network.layers):
        if layer.op not in CONVOLUTIONS:
            continue
        shape = conv_shape(network, index)
        found = candidates(shape)
        total += 1
        most = max((each.workspace_bytes(shape) for each in found), default=0)
        rows.add_row(layer.name, shape.key, str(len(found)), size(most), _counted(p.family for p in found))
    screen = console()
    screen.print(f"{network.name}: {total} convolutions", style="bold")
    screen.print(rows)


def _print_packages(found: Sequence[Primitive]) -> None:
    """Which packages they need."""
    for package in sorted({package for each in found for package in each.packages}):
        users = [each.name for each in found if package in each.packages]
        who = "all" if len(users) == len(found) else ", ".join(users)
        console().print(f"needs {package}: {who}")


def _counted(families: Iterable[str]) -> str:
    """``im2col 16, im2row 8``."""
    named = list(families)
    return ", ".join(f"{family} {named.count(family)}" for family in dict.fromkeys(named))


def _layouts(own: Primitive) -> str:
    return f"{own.in_layout} > {own.out_layout}"


def _packages(own: Primitive) -> str:
    return ", ".join(own.packages)


def _said(own: Primitive) -> str:
    """The first sentence of what the code says of itself."""
    text = inspect.cleandoc(type(own).__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()).split(". ")[0].rstrip(".")


def _times_direct(own: Any, shape: ConvShape) -> str:
    return significant(own.multiplies(shape) / shape.macs, 3)

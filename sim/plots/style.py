"""What all figures share: colours, markers, fonts, units, the legend, and how a figure is written.

Colours: Okabe and Ito (2008), told apart with every common colour blindness; a marker each, for print without
colour. Widths: one column (3.5 in) or two (7.16 in) of an IEEE page; 8 pt text in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from ...traces.atomic import write_whole

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

ONE_COLUMN_IN = 3.5
TWO_COLUMNS_IN = 7.16
MARGIN_IN = 0.04
PNG_DPI = 200
HANDLE_IN = 0.45
"""Width of a legend's line, with the space around it."""
LETTER_IN = 0.075
"""Width of a letter of 8 pt, rather more than the average."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
"""Okabe and Ito's, the yellow replaced by a brown: yellow lines vanish on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
GREY = "#666666"
SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "patch.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.2,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "text.usetex": False,
    "path.simplify": True,
}

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib's defaults plus ``SETTINGS`` until the block ends, whatever the user's matplotlibrc."""
    import matplotlib

    # rcParamsDefault names a backend resolver too: switching that is not for a library.
    defaults = matplotlib.rcParamsDefault.items()
    used: dict[Any, Any] = {key: value for key, value in defaults if not key.startswith("backend")}
    used.update(SETTINGS)
    with matplotlib.rc_context(used):
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under ``settings()``."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with settings():
            return draw(*args, **kwargs)

    return inside


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure without pyplot, laid out so that nothing overlaps or is cut off."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=MARGIN_IN, h_pad=MARGIN_IN)
    figure = Figure(figsize=(width_in, height_in), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path | str) -> list[Path]:
    """Write ``path``.png (200 dpi) and ``path``.pdf (fonts embedded); returns both paths.

    A suffix .png or .pdf of ``path`` is ignored. No dates inside: the same figure gives the same bytes.
    """
    stem = Path(path)
    if stem.suffix in (".png", ".pdf"):
        stem = stem.with_suffix("")
    nothing: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    }
    written = []
    layout = figure.get_layout_engine()
    with settings():
        for suffix, metadata in nothing.items():
            target = stem.with_name(f"{stem.name}.{suffix}")
            draw = partial(figure.savefig, format=suffix, dpi=PNG_DPI, metadata=metadata)
            write_whole(target, draw)
            written.append(target)
            figure.set_layout_engine("none")  # laid out once is enough, and both files look the same
        figure.set_layout_engine(layout)
    return written


# -- one look per series ----------------------------------------------------------------------------------


class Look(NamedTuple):
    """How one series is drawn, the same in every panel."""

    color: str
    marker: str
    linestyle: Any


def looks(names: Iterable[Any]) -> dict[Any, Look]:
    """A look for every name in the order given; after 8 the colours come again darker, with other dashes."""
    found = {}
    for number, name in enumerate(dict.fromkeys(names)):
        which, lap = number % len(COLOURS), number // len(COLOURS)
        color = _darker(COLOURS[which], lap % len(DASHES))
        found[name] = Look(color, MARKERS[(which + lap) % len(MARKERS)], DASHES[lap % len(DASHES)])
    return found


def _darker(color: str, times: int) -> str:
    if color == "#000000":
        return ("#000000", "#7F7F7F", "#B0B0B0")[times]
    parts = (round(int(color[i : i + 2], 16) * 0.55**times) for i in (1, 3, 5))
    return "#" + "".join(f"{part:02X}" for part in parts)


def legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """One legend above the figure, in as many columns as its width holds; the figure grows by its height.

    Labels that even one column cannot hold are shortened. (Below, it would run into a shared axis label.)
    """
    width_in = figure.get_figwidth() - 2 * MARGIN_IN
    labels = shortened(labels, int((width_in - HANDLE_IN) / LETTER_IN))
    for columns in range(len(handles), 0, -1):
        made = figure.legend(handles, labels, loc="outside upper center", ncols=columns)
        box = made.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
        if box.width / figure.dpi <= width_in or columns == 1:
            figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)
            return
        made.remove()


# -- units ------------------------------------------------------------------------------------------------


def time_unit(largest_s: float) -> tuple[float, str]:
    """The unit to show times up to ``largest_s`` in: its seconds and its name."""
    units = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    for seconds, name in units:
        # Minutes only from ten minutes on, and so on.
        if largest_s >= seconds * (10 if seconds > 1 else 1):
            return seconds, name
    return (1e-9, "ns") if largest_s > 0 else (1.0, "s")


def bytes_unit(largest: float, limit_bytes: float | None = None) -> tuple[float, str]:
    """The unit to show sizes up to ``largest`` bytes in: its bytes and its name.

    Binary, unless the limit beside them is a round number in decimal units.
    """
    decimal = limit_bytes is not None and "i" not in bytes_label(limit_bytes)
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "k" if decimal else "K")):
        if largest >= (unit := float((1000 if decimal else 1024) ** power)):
            return unit, f"{letter}B" if decimal else f"{letter}iB"
    return 1.0, "B"


def bytes_label(count: float) -> str:
    """512 MiB, 1.5 GiB, 100 MB: in the unit, binary or decimal, that takes the fewest digits.

    An odd number below 10 KiB stays a number of bytes.
    """
    if math.isnan(count) or math.isinf(count):
        return "no limit"
    labels = []
    for base, names in ((1024, ("B", "KiB", "MiB", "GiB", "TiB")), (1000, ("B", "kB", "MB", "GB", "TB"))):
        for power, name in enumerate(names):
            value = count / base**power
            if 1 <= value < base and (value * 4).is_integer():
                labels.append(f"{value:g} {name}")
    if labels:
        return min(labels, key=len)
    if count < 10 * 1024:
        return f"{count:g} B"
    unit, name = bytes_unit(count)
    return f"{count / unit:.4g} {name}"


def log_ticks(axis: Axis, lowest: float, highest: float) -> None:
    """Ticks with plain numbers on a logarithmic axis, also where it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    decades = math.log10(highest / lowest) if lowest > 0 else 0.0
    if decades < 0.5:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=9))
        axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10)), numticks=12))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def plain_number(value: float) -> str:
    """0.002, 50, 20000, and powers of ten beyond."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    factor = float(mantissa)
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if factor == 1 else f"${factor:g}\\times {power}$"


def shorten(text: str, length: int) -> str:
    """Cut a long name in the middle, so that its beginning and end tell it apart."""
    if len(text) <= length:
        return text
    keep = length - 1
    return f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"


def shortened(names: Sequence[str], length: int) -> list[str]:
    """Names as labels of at most ``length`` letters, or of as many more as keep different names different."""
    longest = max(map(len, names), default=0)
    while True:
        short = [shorten(name, length) for name in names]
        if length >= longest or len(set(short)) == len(set(names)):
            return [literal(name) for name in short]
        length += 2


def literal(text: str) -> str:
    """The text as it is on one line: a name's dollar signs are not mathematics."""
    return " ".join(text.split()).replace("$", r"\$")

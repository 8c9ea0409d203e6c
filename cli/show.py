"""``edgesched networks|devices|policies list|show``: what there is to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import console, message, seconds, significant, size, table

networks = typer.Typer(no_args_is_help=True, help="Networks: the catalogue and ONNX files.")
devices = typer.Typer(no_args_is_help=True, help="Devices: the catalogue and board files.")
policies = typer.Typer(no_args_is_help=True, help="Policies: built in, installed, or from a file.")


@networks.command("list")
def list_networks() -> None:
    """The networks of the catalogue."""
    from ..workloads import catalogue

    rows = table(
        "network",
        "layers",
        "weights",
        "MACs",
        "input",
        "description",
        right=("layers", "weights", "MACs"),
        wrap=("description",),
    )
    for name, entry in catalogue.NETWORKS.items():
        network = catalogue.build(name)
        shape = "x".join(str(side) for side in network.input_shape)
        rows.add_row(
            name,
            str(len(network.layers)),
            size(network.weight_bytes),
            _millions(network.macs),
            shape,
            entry.description,
        )
    console().print(rows)


@networks.command("show")
def show_network(
    name: Annotated[str, typer.Argument(help="A name of the catalogue, or a file that ends in .onnx.")],
    device: Annotated[
        str | None, typer.Option(help="Add what each layer costs on this device.", show_default=False)
    ] = None,
) -> None:
    """The layers of a network."""
    from ..workloads import catalogue

    screen = console()
    network = imported(Path(name)) if name.lower().endswith(".onnx") else catalogue.build(name)
    cost = _cost(network, device)
    title = f"{network.name}: {network.description}" if network.description else network.name
    screen.print(title, style="bold")
    if network.source:
        screen.print(f"source: {network.source}")
    screen.print(
        f"{len(network.layers)} layers ({network.conv_layers} convolutional part), "
        f"{_millions(network.macs)} MACs, {size(network.weight_bytes)} weights, "
        f"{size(network.output_bytes)} outputs"
    )
    if cost is not None:
        screen.print(
            f"on {device}: {seconds(cost.solo_s)} alone; "
            f"peak {size(cost.layerwise_peak_bytes)} layer by layer, {size(cost.bulk_peak_bytes)} in bulk"
        )
    screen.print()
    screen.print(_layers(network, cost))


def _layers(network: Any, cost: Any) -> Any:
    heads = ("MMACs", "weights", "output", "scratch")
    if cost is None:
        rows = table("layer", "operation", "output shape", *heads, gap=1, right=heads, wrap=("layer",))
    else:
        times = ("load ms", "exec ms")
        rows = table("layer", "operation", *heads, *times, gap=1, right=(*heads, *times), wrap=("layer",))
    for index, layer in enumerate(network.layers):
        count = [_in(1e6, layer.macs)]
        count += [_in(1 << 20, n) for n in (layer.weight_bytes, layer.output_bytes, layer.workspace_bytes)]
        if cost is None:
            rows.add_row(layer.name, layer.op, "x".join(map(str, layer.output_shape)), *count)
        else:
            times_s = (cost.load_s[index], cost.execute_s[index])
            rows.add_row(layer.name, layer.op, *count, *(_in(1e-3, value) for value in times_s))
    rows.caption = "weights, output and scratch (workspace) in MiB"
    rows.caption_justify = "left"
    return rows


def _in(unit: float, value: float) -> str:
    return significant(value / unit, 3) if value else "-"


def imported(path: Path) -> Any:
    """The network of an ONNX file, with its warnings said. Raises ``InputError``."""
    from ..runs.load import InputError
    from ..workloads import onnx_import

    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        network, report = onnx_import.load_with_report(path)
    except ImportError as error:
        raise InputError(f"{path}: {error}") from error
    if report.message:
        message(f"warning: {report.message}")
    return network


def _cost(network: Any, device: str | None) -> Any:
    if device is None:
        return None
    from ..devices import boards
    from ..devices.costing import CostModel

    return CostModel(boards.load(device)).cost(network)


@devices.command("list")
def list_devices() -> None:
    """The boards of the catalogue."""
    from ..devices import boards

    rows = table(
        "device",
        "processors",
        "memory",
        "swap",
        "description",
        right=("memory",),
        wrap=("description", "processors"),
    )
    for name in boards.names():
        board = boards.load(name)
        processors = ", ".join(f"{p.cores} x {p.model or p.kind}" for p in board.processors)
        rows.add_row(
            name,
            processors,
            _memory(board.memory.total_bytes),
            "yes" if board.memory.swap else "no",
            board.description,
        )
    console().print(rows)


@devices.command("show")
def show_device(
    name: Annotated[str, typer.Argument(help="A name of the catalogue, or a file that ends in .yaml.")],
) -> None:
    """Everything a device is made of, as its YAML."""
    import yaml

    from ..devices import boards

    board = boards.load(name)
    print(
        yaml.safe_dump(board.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True),
        end="",
    )


@policies.command("list")
def list_policies() -> None:
    """The policies by name."""
    from ..policies import registry

    rows = table("policy", "parameters", "what it does", wrap=("what it does", "parameters"))
    for name in registry.names():
        cls = registry.find(name)
        parameters = ", ".join(_parameter(key, default) for key, default in registry.parameters(cls).items())
        rows.add_row(name, parameters, _first_line(cls))
    screen = console()
    screen.print(rows)
    screen.print()
    screen.print("or your own: path/to/file.py:ClassName")


@policies.command("show")
def show_policy(
    name: Annotated[str, typer.Argument(help="A policy's name, or file.py:Class.")],
) -> None:
    """What a policy does, and its parameters."""
    import inspect

    from ..policies import registry

    cls = registry.find(name)
    screen = console()
    screen.print(
        f"{name} ({cls.__module__.rpartition('.')[2]}.{cls.__name__})"
        if not registry.is_file(name)
        else name,
        style="bold",
    )
    screen.print()
    screen.print(_flowing(inspect.getdoc(cls) or "(no docstring)"))
    parameters = registry.parameters(cls)
    screen.print()
    if not parameters:
        screen.print("It has no parameters.")
        return
    rows = table("parameter", "default", right=("default",))
    for key, default in parameters.items():
        rows.add_row(key, "(required)" if default is inspect.Parameter.empty else str(default))
    screen.print(rows)


def _parameter(key: str, default: Any) -> str:
    import inspect

    return key if default is inspect.Parameter.empty else f"{key}={default}"


def _first_line(cls: type) -> str:
    import inspect

    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _flowing(docstring: str) -> str:
    """The docstring without its line breaks and markup, paragraphs apart."""
    paragraphs = docstring.replace("``", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _millions(count: int) -> str:
    return f"{significant(count / 1e6)} M" if count else "-"


def _memory(count: int) -> str:
    return size(count) if count < 1 << 50 else "no limit"

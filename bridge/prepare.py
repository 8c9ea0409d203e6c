"""From the names in a scenario to layer bundles on this machine, made once."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..policies import registry
from ..policies.contract import Policy
from ..runs.resolve import AsExecuted, located, network_of
from ..runs.setup import set_up
from ..traces.atomic import write_whole
from ..workloads.network import Network
from .bundles.bundle import Bundle
from .bundles.cache import bundle_of, cache_folder, kept

if TYPE_CHECKING:
    from ..runs.scenario import Scenario

Tell = Callable[[str], None]


def bundles_of(
    names: Iterable[str],
    folder: Path | None = None,
    *,
    cache: Path | None = None,
    tell: Tell | None = None,
) -> dict[str, Bundle]:
    """The bundle of every named network: a user's model (``model.onnx``), or one of the catalogue.

    Networks of the catalogue get random weights, the same each time: what a layer costs does not depend on
    their values. ``folder`` is where relative files are looked up; ``tell`` hears what is being made. Raises
    ValueError for unknown networks and unusable models.
    """
    return {name: _bundle(name, folder, cache or cache_folder(), tell or _say_nothing) for name in names}


def bundles_for(
    scenario: Scenario, folder: Path | None = None, *, tell: Tell | None = None
) -> dict[str, Bundle]:
    """The bundles that a replay of the scenario executes; none where its policy plans the primitives itself.

    Raises ValueError as ``bundles_of`` and ``set_up`` do.
    """
    names = scenario.workload.networks(folder)
    if registry.find(located(scenario.policy.name, folder)).plan is not Policy.plan:
        plan = set_up(scenario, folder=folder).offline
        if plan is not None and plan.costs:
            return {}
    inline = {network.name for network in scenario.networks}
    return bundles_of([name for name in names if name not in inline], folder, tell=tell)


def as_executed(bundles: Mapping[str, Bundle]) -> AsExecuted:
    """The bundles' networks, with the workspace that a profile of these very bundles knows.

    Raises ValueError where the profile is of other bundles: its seconds and bytes are those of other layers.
    """

    def network(name: str, profiled: Network | None) -> Network | None:
        if name not in bundles:
            return profiled
        executed = bundles[name].network()
        if profiled is None:
            return executed
        if _structure(profiled) != _structure(executed):
            raise ValueError(
                f"{name}: the board's profile was made of other layers than this machine executes (another "
                f"runtime, processor or model); measure again: edgesched profile"
            )
        return profiled

    return network


def _structure(network: Network) -> list[tuple[object, ...]]:
    layers = [(x.name, x.op, x.inputs, x.weight_bytes, x.output_bytes) for x in network.layers]
    return [(network.arena_bytes,), *layers]


def _say_nothing(_: str) -> None:
    """No one listens."""


def _bundle(name: str, folder: Path | None, cache: Path, tell: Tell) -> Bundle:
    if name.lower().endswith(".onnx"):
        model = folder / name if folder is not None else Path(name)
        steps: list[str] = []

        def progress(step: str) -> None:
            if not steps:
                tell(f"{model.stem}: cutting the model into layers")
            steps.append(step)

        return bundle_of(model, cache=cache, progress=progress)
    from .bundles.generate import GENERATOR_VERSION, generate

    network = network_of(name)
    layers = [{**asdict(layer), "attributes": dict(layer.attributes)} for layer in network.layers]
    what = json.dumps([GENERATOR_VERSION, layers, network.input_shape], sort_keys=True)
    known = cache / "generated" / f"{hashlib.sha256(what.encode()).hexdigest()}.json"
    if known.exists():
        made_of = json.loads(known.read_text(encoding="utf-8"))["source_sha256"]
        found = kept(made_of, name=name, cache=cache)
        if found is not None:
            return found
    tell(f"{name}: generating {network.weight_bytes / 1e6:.0f} MB of weights, cutting it into layers")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="generating-") as scratch:
        model = Path(scratch) / f"{name.replace('/', '_')}.onnx"
        generate(network, model)
        made = bundle_of(model, name=name, cache=cache)
    known.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"name": name, "source_sha256": made.description.source_sha256}) + "\n"
    write_whole(known, lambda draft: draft.write_text(text, encoding="utf-8"))
    return made

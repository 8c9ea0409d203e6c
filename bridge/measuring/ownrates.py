"""Rates from a profile of this machine, for networks that the profile lacks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from ...devices.costing import CostModel
from ...devices.model import Cost, Device
from ...devices.rates import fit_load_rates, fit_rates, report_rates
from ...traces.profile import Profile
from ...workloads.network import Network


class OwnRatesError(ValueError):
    """The profile does not hold what rates need; the message says what."""


class OwnRates(NamedTuple):
    """Keys of a board's ``cost``, and the fits for its ``calibration.fitted``."""

    cost: dict[str, Any]
    fitted: list[dict[str, Any]]


def own_rates(profile: Profile, device: Device) -> OwnRates:
    """Rates of executing, of loading past the page cache, and the time of INIT.

    The networks are those that the profile describes as a replay executes them, at the device's number of
    threads. Raises OwnRatesError where there is none, or RateError where nothing was measured.
    """
    threads = device.runtime.threads
    model = CostModel(device)
    model.profile = profile
    networks = [found for name in profile.networks if (found := model.network(name)) is not None]
    if not networks:
        raise OwnRatesError(
            f"{profile.source}: holds no network as a replay executes it with threads {threads}; make the "
            f"profile with edgesched profile NETWORK --threads {threads}"
        )
    cold = _cold(profile)
    rates = fit_rates(cold, networks, threads=threads)
    execute = {op: _rounded(of_class.model_dump()) for op, of_class in rates.items()}
    load = _rounded(asdict(fit_load_rates(cold, networks, threads=threads)))
    init_s = statistics.median(
        row.init_s for row in profile.rows if row.layer is None and row.threads == threads and row.init_s
    )
    cost = {"execute": execute, **load, **_rounded({"init_s": init_s})}
    return OwnRates(cost, _fitted(cold, networks, device, cost))


def _cold(profile: Profile) -> Profile:
    """The profile with its cold times as the times of loading; layers without weights load nothing."""
    rows = [replace(row, load_s=row.cold_load_s if row.weight_bytes else None) for row in profile.rows]
    return Profile(tuple(rows), profile.metadata, profile.source)


def _fitted(
    cold: Profile, networks: Sequence[Network], device: Device, cost: dict[str, Any]
) -> list[dict[str, Any]]:
    """The constants, and how far the networks' summed times are off by them."""
    report = report_rates(cold, networks, threads=device.runtime.threads)
    by_rates = CostModel(device.model_copy(update={"cost": Cost.model_validate(cost)}))
    measured = CostModel(device)
    measured.profile = cold
    errors: dict[str, dict[str, float]] = {"execute": {}, "load": {}}
    for network in networks:
        for kind, seconds in (("execute", CostModel.execute_s), ("load", CostModel.load_s)):
            layers = [
                at for at, layer in enumerate(network.layers) if kind == "execute" or layer.weight_bytes
            ]
            total_s = sum(seconds(measured, network, at) for at in layers)
            if total_s:
                told_s = sum(seconds(by_rates, network, at) for at in layers)
                errors[kind][network.name] = round(told_s / total_s - 1, 4)
    constants = {
        f"cost.execute.{op}.{key}": value
        for op, rates in cost["execute"].items()
        for key, value in rates.items()
    }
    load = {f"cost.{key}": value for key, value in cost.items() if key.startswith("load_")}
    return [
        {"constants": constants, "errors": errors["execute"], "left_out_errors": _round4(report.totals)},
        {"constants": load, "errors": errors["load"], "left_out_errors": _round4(report.load_totals)},
    ]


def _rounded(values: dict[str, float]) -> dict[str, float]:
    """Four digits each, as board files hold them; what is 0 is left out."""
    return {key: float(f"{value:.4g}") for key, value in values.items() if value}


def _round4(errors: dict[str, float]) -> dict[str, float]:
    return {name: round(error, 4) for name, error in errors.items()}

"""Rates: exact on synthetic profiles, known errors on the measured one."""

import itertools
import math

import numpy as np
import pytest

from edgesched.devices.cost import moved_bytes
from edgesched.devices.model import OpRates
from edgesched.devices.rates import (
    LoadRates,
    RateError,
    fit_load_rates,
    fit_rates,
    nonnegative_least_squares,
    report_rates,
)
from edgesched.traces.profile import Profile, ProfileRow, read_profile
from edgesched.workloads.catalogue import build
from edgesched.workloads.network import Network

TRUE = {
    "convolution": OpRates(call_s=2e-5, mac_s=1.5e-10, byte_s=3e-10),
    "fully-connected": OpRates(call_s=1e-5, mac_s=0.0, byte_s=5e-10),
    "relu": OpRates(call_s=5e-6, byte_s=1e-9),
}
DEFAULT = OpRates(call_s=1e-5, byte_s=2e-9)
LOAD = LoadRates(load_call_s=1e-4, load_byte_s=3e-9, load_byte_s_per_copy=2e-9)


def synthetic(networks: list[Network], noise: float = 0.0, **stated: str | int) -> Profile:
    rng = np.random.default_rng(1)
    rows = []
    for network in networks:
        for index, layer in enumerate(network.layers):
            rates = TRUE.get(layer.op, DEFAULT)
            moved = moved_bytes(network, index)
            seconds = rates.call_s + layer.macs * rates.mac_s + moved * rates.byte_s
            load = LOAD.load_call_s + layer.weight_bytes * (
                LOAD.load_byte_s + network.load_copies * LOAD.load_byte_s_per_copy
            )
            rows.append(
                ProfileRow(
                    network.name,
                    index,
                    execute_s=seconds * rng.lognormal(0, noise),
                    load_s=load,
                    **stated,  # type: ignore[arg-type]
                )
            )
    return Profile(tuple(rows))


NETWORKS = [build(name) for name in ("AgeNet", "FaceNet", "SoS_GoogleNet")]


def close(found: OpRates, true: OpRates, rel: float = 1e-6) -> bool:
    return all(
        math.isclose(getattr(found, name), getattr(true, name), rel_tol=rel, abs_tol=1e-16)
        for name in ("call_s", "mac_s", "byte_s")
    )


def test_exact_rates_are_found_again() -> None:
    profile = synthetic(NETWORKS)
    rates = fit_rates(profile, NETWORKS)
    for op in ("convolution", "fully-connected", "relu"):
        assert close(rates[op], TRUE[op]), op
    assert close(rates["pooling"], DEFAULT)
    assert rates["other"] == rates["relu"], "the elementwise classes"
    load = fit_load_rates(profile, NETWORKS)
    assert load.load_call_s == pytest.approx(LOAD.load_call_s)
    assert load.load_byte_s == pytest.approx(LOAD.load_byte_s)
    assert load.load_byte_s_per_copy == pytest.approx(LOAD.load_byte_s_per_copy)


def test_exact_rates_have_no_errors() -> None:
    report = report_rates(synthetic(NETWORKS), NETWORKS)
    for op in ("convolution", "relu", "lrn"):
        assert report.execute[op].fitted.p90 < 1e-6
        assert report.execute[op].left_out.p90 < 1e-6
    assert report.load.fitted.p90 < 1e-6
    assert set(report.totals) == {network.name for network in NETWORKS}


def test_noise_moves_rates_little_and_odd_rows_do_not_rule() -> None:
    profile = synthetic(NETWORKS, noise=0.05)
    assert close(fit_rates(profile, NETWORKS)["relu"], TRUE["relu"], rel=0.1)
    rows = list(profile.rows)
    rows[0] = ProfileRow("AgeNet", 0, execute_s=1e-9, load_s=1e-6)
    odd = fit_load_rates(Profile(tuple(rows)), NETWORKS)
    assert odd.load_call_s == pytest.approx(LOAD.load_call_s, rel=0.05)


def test_one_kind_of_copies_puts_all_in_load_byte_s() -> None:
    network = build("AgeNet")
    assert network.load_copies == 3
    load = fit_load_rates(synthetic([network]), [network])
    assert load.load_byte_s_per_copy == 0.0
    assert load.load_byte_s == pytest.approx(3e-9 + 3 * 2e-9)


def test_a_single_family_leaves_nothing_out() -> None:
    sizes = [build("FaceNet"), build("FaceNet@500")]
    report = report_rates(synthetic(sizes), sizes)
    assert report.totals == {}
    assert report.execute["relu"].left_out.n == 0
    assert math.isnan(report.execute["relu"].left_out.median)
    assert report.execute["relu"].fitted.n == 14


def test_rows_are_chosen_by_primitive_and_threads() -> None:
    network = build("AgeNet")
    profile = synthetic([network], primitive="im2row", threads=2)
    assert fit_rates(profile, [network], primitive="im2row", threads=2)["relu"].byte_s > 0
    with pytest.raises(RateError, match="no execution time above 0 of AgeNet; it holds AgeNet"):
        fit_rates(profile, [network], threads=4)


def test_nothing_to_fit_is_an_error() -> None:
    profile = Profile((ProfileRow("AgeNet", 0, execute_s=0.0),), source="mine")
    for networks in ([], [build("AgeNet")]):
        with pytest.raises(RateError, match="profile 'mine' has no execution time"):
            fit_rates(profile, networks)
        with pytest.raises(RateError, match="no load time"):
            fit_load_rates(profile, networks)


def test_least_squares_meets_the_kkt_conditions() -> None:
    rng = np.random.default_rng(0)
    for columns, _ in itertools.product((1, 2, 3, 5), range(20)):
        a = rng.normal(size=(12, columns)) * 10.0 ** rng.integers(-8, 3, size=columns)
        b = rng.normal(size=12)
        x = nonnegative_least_squares(a, b)
        gradient = (a.T @ (a @ x - b)) / np.linalg.norm(a, axis=0)
        assert (x >= 0).all()
        assert (gradient >= -1e-9).all()
        assert np.allclose(gradient[x > 0], 0, atol=1e-9)


def test_least_squares_with_degenerate_columns() -> None:
    a = np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [3.0, 6.0, 0.0]])
    x = nonnegative_least_squares(a, np.array([2.0, 4.0, 6.0]))
    assert a @ x == pytest.approx([2.0, 4.0, 6.0])
    assert (x >= 0).all()
    with pytest.raises(ValueError, match="at most 8"):
        nonnegative_least_squares(np.ones((3, 9)), np.ones(3))


EXECUTE_LEFT_OUT = {
    "AgeNet": -0.094,
    "GenderNet": -0.054,
    "FaceNet@1275": 0.050,
    "FaceNet@1340": 0.053,
    "FaceNet@2520": 0.062,
    "SoS": -0.111,
    "SoS_GoogleNet": 0.049,
}
LOAD_LEFT_OUT = {
    "AgeNet": -0.089,
    "GenderNet": -0.087,
    "FaceNet@1275": -0.107,
    "FaceNet@1340": -0.097,
    "FaceNet@2520": -0.097,
    "SoS": 0.005,
    "SoS_GoogleNet": 0.077,
}
"""Relative errors of summed times by rates fitted to the other networks."""


def test_errors_on_the_measured_laptop() -> None:
    """What the rates are worth on networks that they were not fitted to; recorded so that a change shows.

    Totals are signed. The laptop's networks: AgeNet, GenderNet, FaceNet (3 sizes), SoS, SoS_GoogleNet.
    """
    profile = read_profile("edgecaffe-laptop")
    report = report_rates(profile, [build(name) for name in profile.networks])
    assert report.totals == pytest.approx(EXECUTE_LEFT_OUT, abs=0.005)
    assert report.load_totals == pytest.approx(LOAD_LEFT_OUT, abs=0.005)
    assert max(map(abs, report.totals.values())) < 0.12
    assert max(map(abs, report.load_totals.values())) < 0.12
    medians = {op: round(fit.fitted.median, 2) for op, fit in report.execute.items()}
    assert medians["fully-connected"] <= 0.05
    assert medians["relu"] <= 0.08
    assert medians["convolution"] <= 0.23
    assert report.execute["convolution"].left_out.median == pytest.approx(0.30, abs=0.02)
    assert report.load.fitted.median == pytest.approx(0.08, abs=0.01)
    gemm = report.execute["convolution"].rates
    assert isinstance(gemm, OpRates)
    assert gemm.mac_s == pytest.approx(1.42e-10, rel=0.02), "14 GFLOP/s"

"""Arrival processes: their statistics, that draws are common over rates and prefixes, and replay files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from edgesched.workloads import recording as recording_module
from edgesched.workloads import timeline as timeline_module
from edgesched.workloads.arrivals import Arrivals, Closed, closed
from edgesched.workloads.recording import read_recording
from edgesched.workloads.timeline import gaps, gaps_until

ADAPTER: TypeAdapter[Any] = TypeAdapter(Arrivals)
N = 100_000

OPEN: list[dict[str, Any]] = [
    {"process": "deterministic", "period_s": 0.3, "offset_s": 0.1},
    {"process": "deterministic", "rate_per_s": 7},
    {"process": "poisson", "rate_per_s": 5},
    {"process": "server", "rate_per_s": 5},
    {"process": "normal", "mean_gap_s": 0.2, "sd_s": 0.2},
    {"process": "gamma", "mean_gap_s": 0.2, "cv": 2.5},
    {"process": "mmpp", "rates_per_s": [1, 40], "mean_sojourn_s": [0.7, 0.1]},
    {"process": "mmpp", "rates_per_s": [0, 9], "mean_sojourn_s": [0.1, 0.02]},
]


def spec(**keys: Any) -> Any:
    return ADAPTER.validate_python(keys)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def draws(n: int = N, **keys: Any) -> np.ndarray:
    return np.array(gaps(spec(**keys), n, rng()))


def z_mean(sample: np.ndarray, mean: float, sd: float) -> float:
    return abs(sample.mean() - mean) / (sd / math.sqrt(len(sample)))


# --- statistics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys", [{"process": "poisson", "mean_gap_s": 0.25}, {"process": "server", "rate_per_s": 4}]
)
def test_poisson_gaps_are_exponential(keys: dict[str, Any]) -> None:
    sample = draws(**keys)
    assert z_mean(sample, 0.25, 0.25) < 4
    # The share beyond one mean is exp(-1).
    beyond = np.mean(sample > 0.25)
    assert abs(beyond - math.exp(-1)) < 4 * math.sqrt(math.exp(-1) * (1 - math.exp(-1)) / N)


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0])
def test_gamma_has_its_mean_and_coefficient_of_variation(cv: float) -> None:
    sample = draws(process="gamma", rate_per_s=2, cv=cv)
    sd = 0.5 * cv
    assert z_mean(sample, 0.5, sd) < 4
    # Excess kurtosis of a gamma is 6 cv^2; the sample variance's own variance follows from it.
    error = sd**2 * math.sqrt((2 + 6 * cv**2) / N)
    assert abs(sample.var() - sd**2) < 4 * error


def test_normal_is_truncated_at_zero_with_the_documented_mean() -> None:
    sample = draws(process="normal", mean_gap_s=1, sd_s=1)
    assert sample.min() >= 0
    ratio = NormalDist().pdf(1) / NormalDist().cdf(1)
    variance = 1 - ratio - ratio**2
    assert z_mean(sample, 1 + ratio, math.sqrt(variance)) < 4
    for a, lift in ((3, 0.0015), (2, 0.028)):  # the docstring's numbers
        assert NormalDist().pdf(a) / NormalDist().cdf(a) / a == pytest.approx(lift, rel=0.03)


def test_normal_without_spread_is_constant() -> None:
    assert gaps(spec(process="normal", mean_gap_s=2, sd_s=0), 5, rng()) == [2.0] * 5


@pytest.mark.parametrize(("rates", "stays"), [((1, 30), (2, 0.5)), ((0, 10), (1, 1)), ((5, 5), (0.1, 3))])
def test_mmpp_has_its_mean_rate_from_the_start(
    rates: tuple[float, float], stays: tuple[float, float]
) -> None:
    process = spec(process="mmpp", rates_per_s=rates, mean_sojourn_s=stays)
    rate = np.dot(rates, stays) / sum(stays)
    assert process.mean_s == pytest.approx(1 / rate)
    counts = np.array([len(gaps_until(process, 4, rng(seed))) for seed in range(2000)])
    assert z_mean(counts, rate * 4, float(counts.std(ddof=1))) < 4
    # Counts of a Poisson process have variance = mean; modulation adds to it unless the rates are equal.
    dispersion = counts.var(ddof=1) / counts.mean()
    if rates[0] == rates[1]:
        assert abs(dispersion - 1) < 4 * math.sqrt(2 / 2000)
    else:
        assert dispersion > 1.5


def test_mmpp_on_off_has_the_gap_distribution_of_an_interrupted_poisson_process() -> None:
    # Kuczura 1973: gaps are hyperexponential; E[T] = 1/r (1 + off/on), E[T^2] = 2 E[T]^2 + 2 off^2/(r on).
    on, off, rate = 0.5, 2.0, 8.0
    sample = draws(process="mmpp", rates_per_s=[0, rate], mean_sojourn_s=[off, on])[1:]
    mean = (1 + off / on) / rate
    second = 2 * mean**2 + 2 * off**2 / (rate * on)
    assert z_mean(sample, mean, math.sqrt(second - mean**2)) < 4
    squares = sample**2
    assert z_mean(squares, second, float(squares.std())) < 4


def test_deterministic_is_exact() -> None:
    assert gaps(spec(process="deterministic", period_s=0.1, offset_s=0.7), 4, rng()) == [0.7, 0.1, 0.1, 0.1]
    assert gaps(spec(process="deterministic", rate_per_s=4), 3, rng()) == [0.0, 0.25, 0.25]


@pytest.mark.parametrize("rate", [3, 7, 10, 49, 1000])
def test_a_rate_brings_exactly_its_number_per_second(rate: int) -> None:
    assert len(gaps_until(spec(process="deterministic", rate_per_s=rate), 1, rng())) == rate


def test_offline_is_all_at_time_zero() -> None:
    assert gaps(spec(process="offline"), 1000, rng()) == [0.0] * 1000
    with pytest.raises(ValueError, match="offline arrivals have no end of their own: give a count"):
        gaps_until(spec(process="offline"), 10, rng())


# --- common random numbers, prefixes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        ({"process": "poisson", "rate_per_s": 2}, {"process": "poisson", "rate_per_s": 7}),
        ({"process": "poisson", "mean_gap_s": 0.5}, {"process": "server", "rate_per_s": 7}),
        ({"process": "gamma", "rate_per_s": 2, "cv": 3}, {"process": "gamma", "rate_per_s": 7, "cv": 3}),
        (
            {"process": "normal", "mean_gap_s": 7, "sd_s": 3.5},
            {"process": "normal", "mean_gap_s": 2, "sd_s": 1},
        ),
        (
            {"process": "mmpp", "rates_per_s": [2, 20], "mean_sojourn_s": [7, 3.5]},
            {"process": "mmpp", "rates_per_s": [7, 70], "mean_sojourn_s": [2, 1]},
        ),
    ],
)
def test_other_rates_scale_the_same_draws(slow: dict[str, Any], fast: dict[str, Any]) -> None:
    np.testing.assert_allclose(draws(5000, **slow), 3.5 * draws(5000, **fast), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("keys", OPEN)
@pytest.mark.parametrize(("few", "many"), [(10, 20), (256, 257), (700, 30_000), (0, 1)])
def test_fewer_gaps_are_a_prefix_of_more(keys: dict[str, Any], few: int, many: int) -> None:
    short, long = gaps(spec(**keys), few, rng()), gaps(spec(**keys), many, rng())
    assert (len(short), len(long)) == (few, many)
    assert short == long[:few]
    assert all(type(gap) is float and gap >= 0 and math.isfinite(gap) for gap in long)


@pytest.mark.parametrize("keys", OPEN)
def test_until_a_time_is_the_same_sequence(keys: dict[str, Any]) -> None:
    short, long = gaps_until(spec(**keys), 20, rng()), gaps_until(spec(**keys), 400, rng())
    assert 0 < len(short) < len(long)
    assert long[: len(short)] == short
    assert gaps(spec(**keys), len(short) + 1, rng()) == long[: len(short) + 1]
    assert math.fsum(short) < 20 + 1e-9
    assert math.fsum(long[: len(short) + 1]) >= 20 - 1e-9
    assert gaps_until(spec(**keys), 0, rng()) == []


def test_too_many_requests_within_the_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_module, "MAX_REQUESTS", 1000)
    process = spec(process="deterministic", rate_per_s=100)
    assert len(gaps_until(process, 10, rng())) == 1000
    with pytest.raises(ValueError, match=r"more than 1000 requests within 10\.01 s"):
        gaps_until(process, 10.01, rng())


@pytest.mark.parametrize("n", [-1, 10_000_001])
def test_number_of_gaps_is_bounded(n: int) -> None:
    with pytest.raises(ValueError, match=f"is {n}, must lie in 0..10000000"):
        gaps(spec(process="poisson", rate_per_s=1), n, rng())


@pytest.mark.parametrize("duration_s", [-1, math.nan, math.inf])
def test_duration_is_bounded(duration_s: float) -> None:
    with pytest.raises(ValueError, match="duration_s is"):
        gaps_until(spec(process="poisson", rate_per_s=1), duration_s, rng())


# --- closed processes, names --------------------------------------------------------------------------------


def test_closed_processes() -> None:
    assert closed(spec(process="batch")) == Closed("idle", outstanding=1, group=1)
    assert closed(spec(process="single-stream")) == Closed("outstanding", outstanding=1, group=1)
    multi = spec(process="multi-stream", samples_per_query=8)
    assert closed(multi) == Closed("outstanding", outstanding=8, group=8)
    assert all(closed(spec(**keys)) is None for keys in OPEN)
    assert closed(spec(process="offline")) is None


def test_a_closed_process_has_no_gaps() -> None:
    with pytest.raises(ValueError, match="batch is a closed process"):
        gaps(spec(process="batch"), 3, rng())


def test_importing_the_models_does_not_import_numpy() -> None:
    code = "import sys, edgesched.workloads.workload; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- checks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "where", "message"),
    [
        ({"process": "poison", "rate_per_s": 1}, ("process",), "did you mean poisson"),
        ({"process": "periodic"}, ("process",), "must be one of deterministic, poisson"),
        ({"process": 3}, ("process",), "process is 3"),
        ({"rate_per_s": 3}, ("process",), "process is missing"),
        ({"proces": "poisson", "rate_per_s": 3}, ("proces",), "unknown key; did you mean process?"),
        ({"type": "poisson", "rate_per_s": 3}, ("type",), "unknown key; did you mean process?"),
        ({"process": "poisson"}, (), "exactly one of rate_per_s and mean_gap_s; given: neither"),
        ({"process": "poisson", "rate_per_s": 1, "mean_gap_s": 1}, (), "given: rate_per_s, mean_gap_s"),
        ({"process": "deterministic"}, (), "exactly one of period_s and rate_per_s"),
        ({"process": "poisson", "rate_per_s": 0}, ("rate_per_s",), "greater than"),
        ({"process": "poisson", "rate_per_s": math.nan}, ("rate_per_s",), "finite"),
        ({"process": "poisson", "rate_per_s": math.inf}, ("rate_per_s",), "finite"),
        ({"process": "poisson", "mean_gap_s": 5e-324}, ("mean_gap_s",), "greater than"),
        ({"process": "poisson", "rate_per_s": True}, ("rate_per_s",), "must be a number, not true"),
        ({"process": "poisson", "rate_per_s": 1, "rate": 1}, ("rate",), "not permitted"),
        ({"process": "deterministic", "period_s": 1, "offset_s": -1}, ("offset_s",), "greater than"),
        ({"process": "normal", "mean_gap_s": 1}, ("sd_s",), "required"),
        ({"process": "gamma", "rate_per_s": 1, "cv": 0}, ("cv",), "greater than"),
        ({"process": "mmpp", "rates_per_s": [1], "mean_sojourn_s": [1, 1]}, ("rates_per_s", 1), "required"),
        (
            {"process": "mmpp", "rates_per_s": [-1, 1], "mean_sojourn_s": [1, 1]},
            ("rates_per_s", 0),
            "greater",
        ),
        ({"process": "mmpp", "rates_per_s": [0, 0], "mean_sojourn_s": [1, 1]}, (), "use process: poisson"),
        ({"process": "multi-stream"}, ("samples_per_query",), "required"),
        ({"process": "multi-stream", "samples_per_query": 0}, ("samples_per_query",), "greater than"),
        ({"process": "replay", "file": "a.csv", "repeat": 10_000_001}, ("repeat",), "less than"),
        ({"process": "batch", "count": 3}, ("count",), "not permitted"),
    ],
)
def test_errors_stand_at_the_key(keys: dict[str, Any], where: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**keys)
    [error] = caught.value.errors()
    assert error["loc"] == where
    assert message in error["msg"]


def test_not_a_mapping() -> None:
    with pytest.raises(ValidationError, match="must be a mapping with the key process"):
        ADAPTER.validate_python("poisson")


RATES = st.floats(1e-9, 1e9)
SECONDS = st.floats(0, 1e9)
PROCESSES = st.one_of(
    st.builds(lambda p, o: {"process": "deterministic", "period_s": p, "offset_s": o}, RATES, SECONDS),
    st.builds(lambda r: {"process": "deterministic", "rate_per_s": r}, RATES),
    st.builds(lambda r: {"process": "poisson", "rate_per_s": r}, RATES),
    st.builds(lambda r: {"process": "server", "rate_per_s": r}, RATES),
    st.builds(lambda m, s: {"process": "normal", "mean_gap_s": m, "sd_s": s}, RATES, SECONDS),
    st.builds(lambda m, c: {"process": "gamma", "mean_gap_s": m, "cv": c}, RATES, st.floats(1e-3, 100)),
    st.builds(
        lambda a, b, x, y: {"process": "mmpp", "rates_per_s": (a, b), "mean_sojourn_s": (x, y)},
        st.floats(0, 1e6),
        st.floats(1, 1e6),
        st.floats(1e-9, 1e6),
        st.floats(0.1, 1e6),
    ),
    st.sampled_from([{"process": name} for name in ("offline", "batch", "single-stream")]),
    st.builds(lambda n: {"process": "multi-stream", "samples_per_query": n}, st.integers(1, 10_000)),
)


@given(PROCESSES)
def test_round_trip(keys: dict[str, Any]) -> None:
    process = spec(**keys)
    assert ADAPTER.validate_python(process) == process
    assert ADAPTER.validate_python(process.model_dump(exclude_none=True)) == process
    assert ADAPTER.validate_json(ADAPTER.dump_json(process)) == process
    assert json.loads(ADAPTER.dump_json(process))["process"] == keys["process"]


@given(PROCESSES, st.integers(0, 600), st.integers(0, 2**32))
def test_any_allowed_process_draws_finite_gaps(keys: dict[str, Any], n: int, seed: int) -> None:
    process = spec(**keys)
    if closed(process) is None:
        drawn = gaps(process, n, rng(seed))
        assert len(drawn) == n
        assert all(math.isfinite(gap) and gap >= 0 for gap in drawn)


# --- replay -------------------------------------------------------------------------------------------------


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "arrivals.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_replay_of_gaps(tmp_path: Path) -> None:
    write(tmp_path, "gap_s\n0.5\n0\n\n 1e-1 \n")
    process = spec(process="replay", file="arrivals.csv", repeat=2)
    assert gaps(process, 100, rng(), tmp_path) == [0.5, 0.0, 0.1] * 2
    assert gaps(process, 2, rng(), tmp_path) == [0.5, 0.0]
    assert gaps_until(process, 0.6, rng(), tmp_path) == [0.5, 0.0]


def test_replay_of_times(tmp_path: Path) -> None:
    write(tmp_path, "arrival_s\n1\n1\n4\n")
    process = spec(process="replay", file="arrivals.csv", repeat=2)
    assert gaps(process, 100, rng(), tmp_path) == [1, 0, 3, 1, 0, 3]
    assert gaps_until(process, 5.5, rng(), tmp_path) == [1, 0, 3, 1, 0]


def test_recording_with_networks(tmp_path: Path) -> None:
    path = write(
        tmp_path, b"\xef\xbb\xbfgap_s,networks\r\n0,TinyYolo\r\n2, AgeNet + FaceNet\r\n1,TinyYolo\r\n"
    )
    recording = read_recording(path)
    assert list(recording.gap_s) == [0, 2, 1]
    assert recording.networks == [("TinyYolo",), ("AgeNet", "FaceNet")]
    assert list(recording.choice or ()) == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no header"),
        ("\n1\n", "line 1: no header"),
        ("gap_s\n", "no arrivals"),
        (
            "gaps\n1\n",
            "line 1, column 1: unknown column 'gaps'; allowed are arrival_s or gap_s, and networks",
        ),
        ("gap_s,gap_s\n1,1\n", "line 1, column 2: column 'gap_s' twice"),
        ("gap_s,arrival_s\n1,1\n", "line 1: both arrival_s and gap_s"),
        ("networks\nA\n", "line 1: neither arrival_s nor gap_s"),
        ("gap_s\n1\nsoon\n", r"line 3, column gap_s: 'soon', must be a number of seconds in 0..1e\+09"),
        ("gap_s\n-1\n", "line 2, column gap_s: '-1', must be"),
        ("gap_s\nnan\n", "line 2, column gap_s: 'nan', must be"),
        ("gap_s\ninf\n", "line 2, column gap_s: 'inf', must be"),
        ("gap_s\n1e400\n", "line 2, column gap_s: '1e400', must be"),
        ("gap_s\n1_000\n", "line 2, column gap_s: '1_000', must be"),
        ("gap_s\n１\n", "line 2, column gap_s: '１', must be"),
        ("gap_s\n0x10\n", "line 2, column gap_s: '0x10', must be"),
        ("gap_s,networks\n,A\n", "line 2, column gap_s: an empty cell, must be"),
        ("arrival_s\n1\n2\n1.5\n", "line 4, column arrival_s: 1.5 is earlier than 2.0"),
        ("gap_s,networks\n1\n", r"line 2: 1 cells, the header has 2 \(gap_s, networks\)"),
        ("gap_s\n1,2\n", "line 2: 2 cells, the header has 1"),
        ("gap_s,networks\n1,\n", "line 2, column networks: an empty cell, must be network names"),
        ("gap_s,networks\n1,A++B\n", "line 2, column networks: 'A\\+\\+B', must be network names"),
        ('gap_s\n"1\n', "line 2: not CSV"),
        (b"gap_s\n1\n\xff\n", "line 3: byte b'\\\\xff' at position 0 is not UTF-8"),
        ("gap_s\n1\n".encode("utf-16"), "line 1: byte b'\\\\xff' at position 0 is not UTF-8"),
        (
            "gap_s,networks\n1," + "+".join("A" * 1001) + "\n",
            "line 2, column networks: 1001 networks, at most",
        ),
        (b"gap_s\n" + b"1" * (1 << 20), "line 2: longer than 1048576 bytes"),
    ],
)
def test_bad_recordings(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_recording(path)
    assert str(caught.value).startswith(str(path))


def test_recordings_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "gap_s\n1\n1\n1\n")
    monkeypatch.setattr(recording_module, "MAX_REQUESTS", 2)
    with pytest.raises(ValueError, match="line 4: more than 2 arrivals"):
        read_recording(path)
    monkeypatch.setattr(recording_module, "MAX_REQUESTS", 5)
    monkeypatch.setattr(timeline_module, "MAX_REQUESTS", 5)
    with pytest.raises(ValueError, match="3 arrivals repeated 2 times are 6 requests, at most 5"):
        gaps(spec(process="replay", file="arrivals.csv", repeat=2), 1, rng(), tmp_path)
    monkeypatch.setattr(recording_module, "MAX_FILE_BYTES", 3)
    with pytest.raises(ValueError, match="12 bytes, at most 3"):
        read_recording(path)


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a regular file"):
        read_recording(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_recording(tmp_path / "none.csv")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), b"gap_s\n" + data)
    try:
        recording = read_recording(path)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
        assert all(0 <= gap <= 1e9 for gap in recording.gap_s)
    assert not message or message.startswith(str(path))

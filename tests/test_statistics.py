"""Statistics against tables, closed forms, and coverage on queues whose answer is known."""

import json
import math

import numpy as np
import pytest

from edgesched.runs import statistics
from edgesched.runs.statistics import (
    batch_means,
    mean,
    mser5,
    paired_ratio,
    quantile,
    quantile_interval,
    replications,
    standard_deviation,
    t_quantile,
    warmup_end,
    warmup_warning,
)
from edgesched.runs.summary import across

# Percentage points of Student's t: NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2.
NIST = {
    1: (6.314, 12.706, 63.657),
    2: (2.920, 4.303, 9.925),
    3: (2.353, 3.182, 5.841),
    4: (2.132, 2.776, 4.604),
    5: (2.015, 2.571, 4.032),
    9: (1.833, 2.262, 3.250),
    10: (1.812, 2.228, 3.169),
    19: (1.729, 2.093, 2.861),
    29: (1.699, 2.045, 2.756),
    30: (1.697, 2.042, 2.750),
    60: (1.671, 2.000, 2.660),
    100: (1.660, 1.984, 2.626),
}


@pytest.mark.parametrize("dof", NIST)
def test_t_agrees_with_the_printed_table(dof):
    for p, expected in zip((0.95, 0.975, 0.995), NIST[dof], strict=True):
        assert t_quantile(p, dof) == pytest.approx(expected, abs=5.01e-4)
        assert t_quantile(1 - p, dof) == pytest.approx(-expected, abs=5.01e-4)


def test_t_closed_forms_for_one_and_two_degrees_of_freedom():
    for p in (0.51, 0.6, 0.9, 0.975, 0.9999):
        assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9)
        assert t_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-9)
    assert t_quantile(0.5, 7) == 0


def test_t_expansion_meets_the_exact_form_where_they_change_over():
    exact = t_quantile(0.975, statistics.EXACT_DOF)
    beyond = t_quantile(0.975, statistics.EXACT_DOF + 1)
    # dt/dof is about -(z^3 + z)/(4 dof^2) = -5.9e-5 here.
    assert exact - beyond == pytest.approx(5.97e-5, rel=0.02)
    assert t_quantile(0.975, 10**9) == pytest.approx(1.959963985, abs=1e-8)


def test_t_refuses_what_has_no_quantile():
    with pytest.raises(ValueError, match="dof is 0"):
        t_quantile(0.975, 0)
    with pytest.raises(ValueError, match="p is 1"):
        t_quantile(1, 5)


def test_mean_is_correctly_rounded():
    assert mean([1e16, 1.0, -1e16, 1.0]) == 0.5
    assert mean([0.1] * 10) == 0.1
    assert math.isnan(mean([]))


def test_standard_deviation_by_hand():
    assert standard_deviation([2, 4, 4, 4, 5, 5, 7, 9]) == pytest.approx(math.sqrt(32 / 7))
    assert math.isnan(standard_deviation([1.0]))


def test_quantile_is_linear_between_order_statistics():
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile(range(101), 0.95) == 95
    assert math.isnan(quantile([], 0.5))


# -- warm-up ----------------------------------------------------------------------------------------------


def test_warmup_by_requests_or_by_time_whichever_is_later():
    arrival_s = [0.0, 1.0, 1.0, 2.5, 9.0]
    assert warmup_end(arrival_s) == 0
    assert warmup_end(arrival_s, requests=2) == 2
    assert warmup_end(arrival_s, seconds=1.0) == 1
    assert warmup_end(arrival_s, requests=1, seconds=2.0) == 3
    assert warmup_end(arrival_s, requests=99) == 5
    with pytest.raises(ValueError, match="negative"):
        warmup_end(arrival_s, requests=-1)


def test_mser5_cuts_a_step_exactly_and_a_constant_not_at_all():
    assert mser5([9.0] * 20 + [0.0, 1.0] * 50) == 20
    assert mser5([0.1] * 1000) == 0
    assert mser5([1.0] * 7) == 0


def test_mser5_is_the_minimum_of_its_definition():
    rng = np.random.default_rng(5)
    values = rng.exponential(size=300) + 5 * np.exp(-np.arange(300) / 20)
    z = values.reshape(60, 5).mean(1)
    errors = [np.sum((z[d:] - z[d:].mean()) ** 2) / (60 - d) ** 2 for d in range(30)]
    assert mser5(values) == 5 * int(np.argmin(errors))


def test_warning_only_where_the_warm_up_matters():
    loaded = np.concatenate((np.linspace(60, 1, 100), np.ones(900)))
    message = warmup_warning(loaded, 0)
    assert message is not None
    assert "first 100 of 1000" in message
    assert warmup_warning(loaded, 100) is None
    assert warmup_warning(np.ones(1000), 0) is None


# -- intervals --------------------------------------------------------------------------------------------


def test_batch_means_by_hand():
    # Four batches of ten with means 1, 2, 3, 4: s = sqrt(5/3), t(.975; 3) = 3.182446.
    values = np.repeat([1.0, 2.0, 3.0, 4.0], 10)
    estimate = batch_means(values, batches=4)
    assert estimate.value == 2.5
    assert estimate.half_width == pytest.approx(3.182446305 * math.sqrt(5 / 3) / 2)


def test_the_interval_leaves_the_front_out_and_the_mean_does_not():
    values = np.concatenate(([100.0, 100.0], np.repeat([1.0, 2.0, 3.0, 4.0], 10)))
    estimate = batch_means(values, batches=4)
    assert estimate.value == pytest.approx(300 / 42)
    assert estimate.half_width == pytest.approx(3.182446305 * math.sqrt(5 / 3) / 2)


def test_too_few_values_give_no_interval():
    assert math.isnan(batch_means(np.ones(199)).lo)
    assert not math.isnan(batch_means(np.ones(200)).lo)
    for q, enough in ((0.95, 2000), (0.99, 10_000), (0.5, 200)):
        assert math.isnan(quantile_interval(np.ones(enough - 1), q).lo), q
        assert not math.isnan(quantile_interval(np.ones(enough), q).lo), q
    assert math.isnan(replications([1.0]).lo)
    assert replications([1.0]).value == 1.0


def test_replications_by_hand():
    estimate = replications([1.0, 2.0, 3.0])
    assert estimate.value == 2
    assert estimate.half_width == pytest.approx(4.302652730 / math.sqrt(3))


def test_sectioning_by_hand():
    # Two sections with medians 1 and 3 about the median 2 of all: s = sqrt(2), t(.975; 1) = 12.7062.
    values = np.repeat([1.0, 3.0], 40)
    estimate = quantile_interval(values, 0.5, sections=2)
    assert estimate.value == 2
    assert estimate.half_width == pytest.approx(12.70620474 * math.sqrt(2) / math.sqrt(2))


def test_paired_ratio_of_proportional_policies_is_exact():
    baseline = np.array([1.0, 5.0, 20.0, 3.0])
    estimate = paired_ratio(2.5 * baseline, baseline)
    assert estimate == pytest.approx((2.5, 2.5, 2.5))


def test_paired_ratio_turns_over_with_its_arguments():
    rng = np.random.default_rng(2)
    a, b = rng.exponential(size=(2, 10))
    forth, back = paired_ratio(a, b), paired_ratio(b, a)
    assert forth.value == pytest.approx(1 / back.value)
    assert (forth.lo, forth.hi) == pytest.approx((1 / back.hi, 1 / back.lo))


def test_paired_ratio_refuses_what_is_not_paired_or_has_no_logarithm():
    with pytest.raises(ValueError, match="3 values against 2"):
        paired_ratio([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="positive"):
        paired_ratio([1, 0], [1, 2])


def mm1_responses(rng, load, count, warmup=2000):
    """Lindley's recursion for M/M/1 with mean service 1, started empty."""
    service = rng.standard_exponential(count + warmup)
    gap = rng.standard_exponential(count + warmup) / load
    walk = np.cumsum(np.concatenate(([0.0], service[:-1] - gap[1:])))
    return (walk - np.minimum.accumulate(walk) + service)[warmup:]


def test_intervals_cover_the_known_answers_of_mm1():
    """150 runs at load .5: response is exponential with mean 2, so p95 is 2 ln 20. Nominal 95 %."""
    rng = np.random.default_rng(7)
    runs, exact = 150, 2.0
    mean_hits = p95_hits = iid_hits = 0
    for _ in range(runs):
        response = mm1_responses(rng, 0.5, 5000)
        estimate = batch_means(response)
        mean_hits += estimate.lo <= exact <= estimate.hi
        estimate = quantile_interval(response, 0.95)
        p95_hits += estimate.lo <= exact * math.log(20) <= estimate.hi
        iid_hits += abs(response.mean() - exact) <= 1.96 * response.std() / math.sqrt(len(response))
    # Four standard errors below .95 is .88; the formula for independent samples is far below.
    assert mean_hits / runs > 0.88
    assert p95_hits / runs > 0.86
    assert iid_hits / runs < 0.75


# -- replications together --------------------------------------------------------------------------------


def summary(**changed):
    plain = {
        "status": "ok",
        "reason": None,
        "policy": "fifo",
        "device": "ideal",
        "replication": 0,
        "response_mean_s": 1.0,
        "response_median_s": 1.0,
        "response_p95_s": 1.0,
        "response_p99_s": 1.0,
        "job_response_mean_s": 1.0,
        "job_waiting_mean_s": 1.0,
        "throughput_per_s": 1.0,
        "deadline_missed_share": None,
        "energy_per_request_j": None,
        "utilisation": {"worker 0": 0.5},
        "peak_bytes": 10,
        "paged_in_bytes": 0,
        "paged_out_bytes": 0,
        "warnings": [],
    }
    return {**plain, **changed}


def test_across_gives_the_t_interval_of_the_replications():
    together = across([summary(response_mean_s=value, peak_bytes=int(value)) for value in (1.0, 2.0, 3.0)])
    assert together["response_mean_s"] == 2
    assert together["response_mean_s_hi"] - 2 == pytest.approx(4.302652730 / math.sqrt(3))
    assert together["peak_bytes"] == 3
    assert together["deadline_missed_share"] is None
    json.dumps(together, allow_nan=False)


def test_across_gives_no_mean_of_survivors():
    together = across([summary(), summary(status="infeasible", reason="too large", replication=1)])
    assert together["status"] == "infeasible"
    assert together["reason"] == "replication 1: too large"
    assert together["response_mean_s"] is None

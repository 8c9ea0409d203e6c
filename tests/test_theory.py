"""The formulas themselves, the oracles themselves, and `edgesched validate theory` as a whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgesched.cli.validate import app
from edgesched.policies.contract import Worker
from edgesched.policies.ledger import Ledger
from edgesched.policies.pipeline import Pipeline
from edgesched.policies.ready import Entry, Ready
from edgesched.policies.sjf import Sjf
from edgesched.runs.scenario import InlineNetwork
from edgesched.sim.validation import closed_forms, pathwise, theory
from edgesched.sim.validation.checks import Check, network


def test_closed_forms_reduce_to_each_other() -> None:
    mm1 = closed_forms.mm1_response_s(0.7, 1.0)
    assert closed_forms.mg1_response_s(0.7, 1.0, 2.0) == pytest.approx(mm1)
    assert closed_forms.mmc_response_s(0.7, 1.0, 1) == pytest.approx(mm1)
    assert closed_forms.tandem_response_s(0.7, [1.0]) == pytest.approx(mm1)
    assert closed_forms.cobham_response_s([0.7], [1.0], [2.0]) == [pytest.approx(mm1)]
    assert closed_forms.md1_response_s(0.7, 1.0) == closed_forms.mg1_response_s(0.7, 1.0, 1.0)
    # Half of an exponential's response lie below its median.
    assert closed_forms.mm1_response_quantile_s(0.7, 1.0, 0.5) == pytest.approx(math.log(2) * mm1)


def test_closed_forms_known_values() -> None:
    # Erlang C, c = 2, a = 1: 1/3; M/M/2 at rho 0.5: S * 4/3.
    assert closed_forms.erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert closed_forms.mmc_response_s(1.0, 1.0, 2) == pytest.approx(4 / 3)
    # Waits of priorities, weighted with work, are those without (Kleinrock's conservation law).
    rates, means = [0.2, 0.3], [1.0, 2.0]
    squares = [mean**2 for mean in means]
    first, second = closed_forms.cobham_response_s(rates, means, squares)
    wait = math.fsum(rates[k] * means[k] * (r - means[k]) for k, r in enumerate((first, second))) / 0.8
    total_mean, total_square = (0.2 * 1 + 0.3 * 2) / 0.5, (0.2 * 1 + 0.3 * 4) / 0.5
    assert wait == pytest.approx(closed_forms.pollaczek_khinchine_wait_s(0.5, total_mean, total_square))


@pytest.mark.parametrize("rate", [1.0, 1.5])
def test_no_steady_state_is_an_error(rate: float) -> None:
    with pytest.raises(ValueError, match="must be below 1"):
        closed_forms.mm1_response_s(rate, 1.0)
    with pytest.raises(ValueError, match=f"utilisation is {rate:g}"):
        closed_forms.erlang_c(2, 2 * rate)


def _net(**kwargs: object) -> InlineNetwork:
    return InlineNetwork.model_validate(network("n", **kwargs))  # type: ignore[arg-type]


def test_pipeline_recursion_by_hand() -> None:
    net = _net(load_s=[1, 1], execute_s=[3, 3], weight_bytes=[60, 60], init_s=1)
    assert pathwise.pipeline_finish_s([(0.0, [net])]) == ([8], 0)
    # Below 120 bytes the second load (2 to 3) waits for the first execution (2 to 5).
    assert pathwise.pipeline_finish_s([(0.0, [net])], 100) == ([9], 1)
    assert pathwise.pipeline_finish_s([(0.0, [net]), (20.0, [net])], 119)[0] == [9, 29]


def test_serial_recursion_and_image_times_by_hand() -> None:
    net = _net(load_s=[1, 2], execute_s=[3, 4], init_s=0.5)
    for whole in (True, False):
        assert pathwise.serial_finish_s([(0.0, [net]), (4.0, [net, net])], whole=whole) == [10.5, 31.5]
    # X = 3.5, Y = 7; alone: init, load 0, both executions.
    assert pathwise.image_times_s([net]) == (7, 8.5)
    assert pathwise.lindley_responses_s([0, 1, 9], 4.0, 5.0) == [5, 8, 5]


def _smallest_first(self: Pipeline, worker: Worker, ready: Ready, memory: Ledger) -> Entry | None:
    entries = [entry for entry in ready.entries(worker.name) if entry[4].start_bytes <= memory.free_bytes]
    return min(entries, key=lambda entry: (entry[4].start_bytes, entry), default=None)


def test_a_recursion_notices_a_load_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.passed for check in pathwise.recursion_checks(30))
    monkeypatch.setattr(Pipeline, "select", _smallest_first)
    found = pathwise.recursion_checks(30)
    assert not any(check.passed for check in found)
    # Where the wrong order got stuck for ever, there is no number to compare.
    assert any(math.isnan(check.measured) and check.record()["measured"] is None for check in found)


def test_a_wrong_order_of_priorities_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sjf, "rank", lambda self, job: 0.0)
    assert not all(check.passed for check in theory.cobham(theory.QUICK))


def test_nan_does_not_pass() -> None:
    nan = float("nan")
    assert not Check("theory/x", nan, 1.0, nan, 1.0, 1, 1, "99 % interval").passed


def test_the_command_passes_and_writes_its_checks(tmp_path: Path) -> None:
    path = tmp_path / "theory.json"
    result = CliRunner().invoke(app, ["theory", "--quick", "--json", str(path)])
    assert result.exit_code == 0, result.output
    records = json.loads(path.read_text(encoding="utf-8"))
    assert all(record["case"].startswith("theory/") and record["passed"] for record in records)
    assert {"measured", "predicted", "relative_error"} <= records[0].keys()
    exact = [record for record in records if record["rule"] == "bit-equal"]
    assert len(exact) == 9
    assert all(record["measured"] == record["predicted"] for record in exact)
    waits = [float(record["note"].split("%")[0]) for record in exact if record["note"]]
    assert waits[0] == 0
    assert np.all(np.diff(waits) > 0)


def test_the_command_fails_where_a_bar_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Check("theory/wrong", 2.0, 1.0, 1.0, 0.1, 10, 2, "99 % interval")
    monkeypatch.setattr(theory, "theory_checks", lambda effort: iter([wrong]))
    result = CliRunner().invoke(app, ["theory", "--quick"])
    assert result.exit_code == 1
    assert "MISSED" in result.output

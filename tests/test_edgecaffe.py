"""EdgeCaffe's measured times: what the committed boards say, what they were fitted to, and reading data."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgesched.cli.validate import app
from edgesched.devices import boards
from edgesched.devices.model import FittedConstants
from edgesched.sim import calibration
from edgesched.sim.calibration import EDGECAFFE_FITS, Fit
from edgesched.sim.validation.edgecaffe import (
    BARS,
    FILES,
    POLICIES,
    UnknownSetupError,
    board_of,
    predict_s,
    predictions,
    verdicts,
)
from edgesched.traces.importers import FITTED_TOTALS, read_totals
from edgesched.traces.published import PublishedTotal, published_totals
from edgesched.traces.table import ProfileError

TOTALS = {total.id: total for total in published_totals()}
FITTED_BOARDS = sorted({fit.board for fit in EDGECAFFE_FITS})
RUN_LIMITS = [size << 20 for size in (4096, 2048, 1024, 512, 256, 128)]
BATCH_LIMITS = [size << 20 for size in (2048, 1024, 512)]
SLACK = 1e-3
"""Another order of tasks may win a little time under less memory."""


def fitted(board: str) -> list[FittedConstants]:
    found = boards.load(board).calibration
    assert found is not None
    return found.fitted


# -- the committed boards ---------------------------------------------------------------------------------


@pytest.mark.parametrize("board", FITTED_BOARDS)
def test_fitted_rows_come_out_with_the_recorded_error(board: str) -> None:
    """A later fit of the same board may move a row by a hair, the recorded digits end at 1e-4."""
    for group in fitted(board):
        for row, error in group.errors.items():
            found = predict_s(TOTALS[row]) / TOTALS[row].value_s - 1
            assert found == pytest.approx(error, abs=0.005), row
            assert abs(found) < 0.10, row


@pytest.mark.parametrize("board", FITTED_BOARDS)
def test_the_board_holds_the_constants_it_says_it_was_fitted_to(board: str) -> None:
    device = boards.load(board).model_dump()
    for group in fitted(board):
        for path, value in group.constants.items():
            place = device
            for key in path.split("."):
                place = place[key]
            assert place == value, path


def test_roles_are_the_rows_of_the_fits() -> None:
    rows = [row for fit in EDGECAFFE_FITS for row in fit.rows]
    assert max(Counter(rows).values()) == 1
    assert set(rows) == FITTED_TOTALS
    assert {name for name, total in TOTALS.items() if total.role == "fitted"} == FITTED_TOTALS


@pytest.mark.parametrize("board", FITTED_BOARDS)
def test_the_boards_record_the_fits_as_they_stand(board: str) -> None:
    fits = [fit for fit in EDGECAFFE_FITS if fit.board == board]
    assert [tuple(group.constants) for group in fitted(board)] == [fit.parameters for fit in fits]
    assert [tuple(group.errors) for group in fitted(board)] == [fit.rows for fit in fits]
    for group in fitted(board):
        enough = len(group.errors) > len(group.constants)
        assert set(group.left_out_errors) == (set(group.errors) if enough else set())


def test_the_laptop_has_at_most_six_fitted_constants() -> None:
    assert sum(len(group.constants) for group in fitted("edgecaffe-laptop")) <= 6


# -- cells that nobody showed us --------------------------------------------------------------------------


def at(total: PublishedTotal, limits: Iterable[int], **changes: str) -> list[float]:
    return [
        predict_s(dataclasses.replace(total, memory_limit_bytes=limit, **changes))  # type: ignore[arg-type]
        for limit in limits
    ]


def grows(values: list[float]) -> bool:
    return all(less >= more * (1 - SLACK) for more, less in pairwise(values))


@pytest.mark.parametrize("policy", POLICIES)
def test_less_memory_takes_no_less_time(policy: str) -> None:
    values = at(TOTALS["run-linear-4G"], RUN_LIMITS, policy=policy)
    assert grows(values), values
    assert values[-1] > 4 * values[0], "128M pages all the time"


@pytest.mark.parametrize("name", [n for n, total in TOTALS.items() if total.kind != "run"])
def test_less_memory_takes_no_less_time_in_batches_and_solo(name: str) -> None:
    values = at(TOTALS[name], BATCH_LIMITS)
    assert grows(values), values


@pytest.mark.parametrize("device", ["rpi-1", "rpi-2"])
@pytest.mark.parametrize("count", [5, 9, 10])
def test_smaller_boards_are_no_faster(device: str, count: int) -> None:
    total = TOTALS[f"solo-rpi-4-2G-{count}"]
    own = at(total, BATCH_LIMITS, device=device)
    assert grows(own), own
    for smaller, larger in zip(own, at(total, BATCH_LIMITS), strict=True):
        assert smaller >= larger * (1 - SLACK)


# -- fitting again ----------------------------------------------------------------------------------------


def test_one_constant_fitted_again_is_the_committed_one() -> None:
    fit = next(fit for fit in EDGECAFFE_FITS if fit.parameters == ("memory.swap.queue_gain",))
    data = {name: boards.raw(name) for name in boards.names()}
    swap = data[fit.board]["memory"]["swap"]
    committed = swap["queue_gain"]
    data[fit.board] = boards.merged(data[fit.board], {"memory": {"swap": {"queue_gain": 1.0}}})
    found, (outcome,) = calibration.run_fits([fit], data, list(TOTALS.values()))
    assert outcome.values["memory.swap.queue_gain"] == pytest.approx(committed, rel=0.01)
    assert found[fit.board]["memory"]["swap"]["queue_gain"] == pytest.approx(committed, rel=0.01)
    assert outcome.left_out == {}, "one row and one constant leave nothing out"


def test_a_fit_to_a_row_that_is_not_there_is_an_error() -> None:
    fit = Fit("edgecaffe-laptop", ("cost.gemm_scale",), ("run-linear-64G",), ((0.1, 1.0),))
    with pytest.raises(KeyError, match="run-linear-64G"):
        calibration.run_fits([fit], {name: boards.raw(name) for name in boards.names()}, [])


# -- reading measurements ---------------------------------------------------------------------------------

HEADERS = {
    "memory_limit_totals.csv": "mem_limit,policy,workers,total_ms",
    "batch_service_times.csv": "device,build,mem_limit,batch,mean_service_time_ms,confidence_in_labels,"
    "path,commit",
    "solo_mean_durations.csv": "device_tag,mem_limit,networks,quantity,value_ms,se_ms,n_independent_lists,"
    "period",
}
RUN = "128M,deepeye,2,204000"
BATCH = "Raspberry Pi (1GB unit presumed),cpack .deb,1G,FaceNet+FaceNet,9100,high,config/a.yaml,de37852"
SOLO = 'rpi-1,512M,"AgeNet,SoS",mean over networks,12345,,2,2020-08-12'


def measurements(folder: Path, file: str, *lines: str) -> Path:
    (folder / "edgecaffe").mkdir(exist_ok=True)
    text = "\n".join([HEADERS[file], *lines]) + "\n"
    (folder / "edgecaffe" / file).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("file", "line", "row", "kind"),
    [
        ("memory_limit_totals.csv", RUN, "run-deepeye-128M", "run"),
        ("batch_service_times.csv", BATCH, "batch-rpi-1-release-FaceNet+FaceNet-1G", "batch"),
        ("solo_mean_durations.csv", SOLO, "solo-rpi-1-512M-2", "solo-mean"),
    ],
)
def test_one_file_of_three_is_enough(tmp_path: Path, file: str, line: str, row: str, kind: str) -> None:
    (total,) = read_totals(measurements(tmp_path, file, line))
    assert (total.id, total.kind, total.role) == (row, kind, "held-out")
    assert FILES[kind] == file
    assert predict_s(total) > 0


def test_a_limit_nobody_has_shown(tmp_path: Path) -> None:
    (total,) = read_totals(measurements(tmp_path, "memory_limit_totals.csv", RUN))
    assert total.memory_limit_bytes == 128 << 20
    assert total.value_s == 204.0


def test_a_unit_nobody_has_shown(tmp_path: Path) -> None:
    (total,) = read_totals(measurements(tmp_path, "batch_service_times.csv", BATCH))
    assert total.device == "rpi-1"
    assert board_of(total) == "raspberry-pi-4-1gb"
    assert total.note.startswith("the 1 GB unit is presumed; ")


def test_nothing_there_is_no_rows(tmp_path: Path) -> None:
    assert read_totals(tmp_path) == []
    result = CliRunner().invoke(app, ["edgecaffe", "--data", str(tmp_path)])
    assert result.exit_code != 0
    assert "holds no row of edgecaffe/memory_limit_totals.csv" in str(result.exception)


def test_a_cell_measured_twice_keeps_both_rows(tmp_path: Path) -> None:
    """Only the first can be the one that a board was fitted to."""
    lines = ["4G,linear,1,39958", "4G,linear,1,41000"]
    first, second = read_totals(measurements(tmp_path, "memory_limit_totals.csv", *lines))
    assert (first.id, first.role) == ("run-linear-4G", "fitted")
    assert (second.id, second.role) == ("run-linear-4G-2", "held-out")
    assert (first.value_s, second.value_s) == (39.958, 41.0)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("memory_limit_totals.csv", "4T,linear,1,39958"),
        ("memory_limit_totals.csv", "4G,linear,one,39958"),
        ("memory_limit_totals.csv", "4G,linear,1"),
        ("memory_limit_totals.csv", "4G,linear,1,-5"),
        ("memory_limit_totals.csv", "4G,linear,1,nan"),
        ("batch_service_times.csv", BATCH.replace("Raspberry Pi (1GB", "Jetson (1GB")),
        ("batch_service_times.csv", BATCH.replace("cpack .deb", "gcc")),
        ("batch_service_times.csv", BATCH.replace("9100", "")),
        ("solo_mean_durations.csv", SOLO.replace("mean over networks", "sum over networks")),
        ("solo_mean_durations.csv", SOLO.replace(",2,2020", ",two,2020")),
    ],
)
def test_broken_rows_are_refused(tmp_path: Path, file: str, line: str) -> None:
    with pytest.raises(ProfileError):
        read_totals(measurements(tmp_path, file, line))


def test_a_setup_that_no_board_models_is_refused(tmp_path: Path) -> None:
    (total,) = read_totals(measurements(tmp_path, "memory_limit_totals.csv", RUN.replace("deepeye", "masa")))
    with pytest.raises(UnknownSetupError, match="no policy for mode 'masa'"):
        predict_s(total)
    elsewhere = dataclasses.replace(TOTALS["solo-rpi-4-2G-9"], device="rpi-8")
    with pytest.raises(UnknownSetupError, match="no board for device 'rpi-8'"):
        predict_s(elsewhere)


# -- the command ------------------------------------------------------------------------------------------


def test_the_commands_json(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    result = CliRunner().invoke(app, ["edgecaffe", "--json", str(file)])
    assert result.exit_code == 0, result.output
    records = json.loads(file.read_text())
    assert len(records) == len(TOTALS)
    for record, total in zip(records, TOTALS.values(), strict=True):
        assert set(record) >= {"case", "measured", "predicted", "relative_error", "role", "unit"}
        assert record["case"].split("/") == [FILES[total.kind], total.id]
        assert record["measured"] == total.value_s
        assert record["role"] == total.role
        assert record["relative_error"] == pytest.approx(abs(record["predicted"] / record["measured"] - 1))
        assert record["unit"] == "s"


def test_a_missed_bar_is_exit_code_1(tmp_path: Path) -> None:
    data = measurements(tmp_path, "memory_limit_totals.csv", "2G,linear,1,10000", "2G,bulk,1,90000")
    file = tmp_path / "rows.json"
    result = CliRunner().invoke(app, ["edgecaffe", "--data", str(data), "--json", str(file)])
    assert result.exit_code == 1
    assert "MISSED" in result.output
    assert [record["role"] for record in json.loads(file.read_text())] == ["held-out", "held-out"]


def test_bars_look_at_held_out_rows_only() -> None:
    rows = predictions(list(TOTALS.values()))
    held_out = [row for row in rows if row.total.role == "held-out"]
    assert [v.what for v in verdicts(held_out)] == [
        f"{BARS[1].rows}, {len(held_out)} held out",
    ]
    only_fitted = [row for row in rows if row.total.role == "fitted" and row.total.kind != "run"]
    assert verdicts(only_fitted) == []

"""Figures: what they show is in the data, nothing is cut off, nothing global is touched."""

import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from test_tables import run

from edgesched.runs import tables
from edgesched.sim.plots import memory_over_time, response_cdfs, response_curves, save, timeline
from edgesched.sim.plots.style import (
    COLOURS,
    bytes_label,
    bytes_unit,
    looks,
    plain_number,
    shortened,
    time_unit,
)
from edgesched.sim.sweeping.figures import panel_label, value_label


def points(policies=("fifo", "masa"), limits=(256 << 20,), arrivals=("poisson",), scale=1.0):
    """M/M/1-like curves; the last rate is above every capacity."""
    rows = []
    for i, policy in enumerate(policies):
        for limit in limits:
            for process in arrivals:
                for rate in (0.2, 0.5, 0.8, 3.0):
                    load = rate / (1 + 0.2 * i)
                    y = scale / (1 - min(load, 0.99))
                    rows.append((policy, limit, process, rate, y, 0.9 * y, 1.1 * y, load >= 1))
    names = "policy memory_limit_bytes arrivals rate_per_s mean_s lo_s hi_s saturated"
    return pd.DataFrame(rows, columns=names.split())


def texts(figure):
    from matplotlib.text import Text

    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


def assert_everything_is_inside(figure):
    """No visible text reaches out of the figure or into the legend."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    [legend] = figure.legends
    own = set(legend.get_texts())
    above = legend.get_window_extent(renderer).y0
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        if box.width and not _is_a_hidden_tick(figure, text):
            assert box.x0 >= -1, text
            assert box.y0 >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y1 <= height + 1, text
            assert text in own or box.y1 <= above + 1, text


def _is_a_hidden_tick(figure, text):
    """Ticks outside the limits stay in the artist tree without being drawn."""
    ticks = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _drawn(axis)}
    every = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    return text in every and text not in ticks


def _drawn(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


SEVEN = ("fifo", "a policy of a long name.py:Class", "linear", "partial", "deepeye", "deepeye-frugal", "masa")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"policies": SEVEN, "scale": 1e-5},
        {"policies": SEVEN, "limits": (64000, 1 << 29, np.nan), "arrivals": tuple("abcd"), "scale": 1e6},
        {"policies": ("$a_{b", "x" * 200)},
    ],
)
def test_curves_fit_their_figure(changes):
    assert_everything_is_inside(response_curves(points(**changes)))


def test_curves_show_each_point_once_and_saturation_as_open_markers():
    data = points()
    figure = response_curves(data)
    [axes] = figure.axes
    full, open_ = [], []
    for line in axes.lines:
        if line.get_marker() != "None":
            (open_ if line.get_markerfacecolor() == "white" else full).extend(line.get_xydata().tolist())
    expected = data[["rate_per_s", "mean_s"]].to_numpy()
    assert sorted(full) == sorted(expected[~data["saturated"]].tolist())
    assert sorted(open_) == sorted(expected[data["saturated"]].tolist())
    assert axes.get_yscale() == "log"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["fifo", "masa", "saturated"]


def test_points_without_a_value_are_marked_at_the_top_with_the_reason():
    data = points(policies=("fifo", "linear", "masa")).assign(why=None)
    gone = (data["policy"] != "fifo") & (data["rate_per_s"] > 0.5)
    data.loc[gone, ["mean_s", "lo_s", "hi_s"]] = np.nan
    data.loc[gone & (data["policy"] == "linear"), "why"] = "out of memory"
    data.loc[gone & (data["policy"] == "masa"), "why"] = "failed"
    figure = response_curves(data, unusable="why")
    [axes] = figure.axes
    marks = {line.get_marker(): line for line in axes.lines if line.get_marker() in ("x", "+")}
    assert {mark: line.get_xdata().tolist() for mark, line in marks.items()} == {"x": [0.8, 3], "+": [0.8, 3]}
    assert [marks[mark].get_color() for mark in "x+"] == list(COLOURS[1:3])
    heights = [set(marks[mark].get_ydata()) for mark in "x+"]
    assert all(len(height) == 1 and 0.8 < min(height) < 1 for height in heights)
    assert heights[0] != heights[1]
    # No value reaches up to the marks.
    top = axes.transData.transform((0, data["mean_s"].max()))[1]
    assert top < min(axes.transAxes.transform((0, min(height)))[1] for height in heights)
    assert [t.get_text() for t in figure.legends[0].get_texts()][3:] == [
        "saturated",
        "out of memory",
        "failed",
    ]
    assert axes.get_xlim()[1] > 3
    assert_everything_is_inside(figure)


def test_equal_lines_are_told_apart():
    figure = response_curves(points(policies=("fifo", "linear", "masa")))
    drawn = [line for line in figure.axes[0].lines if line.get_marker() == "None"]
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == 3
    sizes = [line.get_markersize() for line in figure.axes[0].lines if line.get_marker() in "os^"]
    assert sizes == sorted(sizes, reverse=True)


def test_sizes_have_their_unit_apart():
    path = "device.memory_limit"
    assert [value_label(path, value) for value in ("512MiB", 2200, "none")] == [
        "512 MiB",
        "2200 B",
        "no limit",
    ]
    assert panel_label("device.memory.base_bytes", 1 << 20) == "base_bytes 1 MiB"
    assert panel_label("run.requests", 30) == "requests 30"


def test_curves_bands_are_the_intervals():
    data = points(policies=("fifo",))[:3]
    [band] = response_curves(data).axes[0].collections
    corners = {(round(x, 9), round(y, 9)) for x, y in band.get_paths()[0].vertices}
    for row in data.itertuples():
        assert {(row.rate_per_s, round(row.lo_s, 9)), (row.rate_per_s, round(row.hi_s, 9))} <= corners


def test_curves_have_a_panel_per_limit_and_process_with_shared_axes():
    limits = (1 << 29, np.nan, 1 << 28)
    figure = response_curves(points(limits=limits, arrivals=("poisson", "gamma")))
    assert len(figure.axes) == 6
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    shown = [text.get_text() for text in texts(figure)]
    order = [shown.index(label) for label in ("256 MiB", "512 MiB", "no limit")]
    assert order == sorted(order)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["poisson", "gamma"]


def test_curves_take_any_columns():
    data = points().rename(columns={"rate_per_s": "limit", "mean_s": "share", "policy": "device"})
    names = {"x": "limit", "y": "share", "lo": None, "hi": None, "series": "device"}
    figure = response_curves(data, **names, panel_row=None, saturated=None, log_y=False)
    assert figure.axes[0].get_ylim()[0] == 0
    assert figure.axes[0].get_ylabel() == "mean response time"
    with pytest.raises(ValueError, match="no column mean_s, policy"):
        response_curves(data, x="limit")
    with pytest.raises(ValueError, match="finite"):
        response_curves(points().assign(mean_s=np.nan))
    with pytest.raises(ValueError, match="positive"):
        response_curves(points().assign(mean_s=0.0))


def test_a_policy_keeps_its_look_in_every_figure():
    names = ["fifo", "linear", "masa"]
    data = points(policies=("masa",))
    line = response_curves(data, order=names).axes[0].lines[0]
    assert line.get_color() == looks(names)["masa"].color == COLOURS[2]


def test_looks_of_many_series_all_differ():
    assert len(set(looks(range(24)).values())) == 24


def test_cdf_steps_are_the_shares():
    figure = response_cdfs({"run": [3.0, 1.0, 2.0, 4.0, np.nan]}, percentiles=(0.5,))
    step, mark = figure.axes[0].lines[:2]
    assert step.get_xydata().tolist() == [[0, 0], [1, 0.25], [2, 0.5], [3, 0.75], [4, 1], [4, 1]]
    assert mark.get_xydata().tolist() == [[2, 0.5]]
    assert_everything_is_inside(figure)


def test_cdf_of_many_times_keeps_the_shares_and_the_tail():
    times = np.random.default_rng(1).exponential(size=50_000)
    line = response_cdfs({"run": times}, log_x=False).axes[0].lines[0]
    x, share = line.get_xydata().T
    assert len(x) < 3000
    assert np.abs(share[1:-1] - np.searchsorted(np.sort(times), x[1:-1], side="right") / 50_000).max() < 1e-12
    assert set(np.sort(times)[-50:]) <= set(x)


def test_cdf_refuses_what_it_cannot_show():
    for runs, message in (({}, "no runs"), ({"a": []}, "no finished"), ({"a": [-1.0]}, "-1")):
        with pytest.raises(ValueError, match=message):
            response_cdfs(runs)


def test_memory_shows_steps_peak_and_limit():
    table = pd.DataFrame({"time_s": [0.0, 1.0, 4.0], "resident_bytes": [0, 3 << 20, 1 << 20]})
    figure = memory_over_time({"masa": table}, limit_bytes=4 << 20)
    step, peak, limit = figure.axes[0].lines
    assert step.get_xydata().tolist() == [[0, 0], [1, 3], [4, 1]]
    assert step.get_drawstyle() == "steps-post"
    assert peak.get_xydata().tolist() == [[1, 3]]
    assert limit.get_ydata() == [4, 4]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["masa, peak 3 MiB", "limit 4 MiB"]
    assert_everything_is_inside(figure)


def test_memory_in_a_window_begins_at_the_level_held():
    table = pd.DataFrame({"time_s": [0.0, 1.0, 4.0], "resident_bytes": [0, 300, 100]})
    figure = memory_over_time({"masa": table}, window_s=(2.0, 8.0))
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[2, 300], [4, 100], [8, 100]]
    with pytest.raises(ValueError, match="begin before"):
        memory_over_time({"masa": table}, window_s=(3.0, 3.0))


def test_a_long_run_loses_no_peak():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"time_s": np.arange(100_000.0), "resident_bytes": rng.integers(0, 1000, 100_000)})
    table.loc[54_321, "resident_bytes"] = 1020
    y = memory_over_time({"masa": table}).axes[0].lines[0].get_ydata()
    assert len(y) < 5000
    assert y.max() == 1020


@pytest.fixture(scope="module")
def result():
    return run("masa", names=("A", "B"), requests=4, period_s=2.0)


def test_timeline_has_a_bar_per_task_on_its_lane(result):
    tasks = tables.tasks(result)
    figure = timeline(tasks, tables.requests(result)["arrival_s"])
    axes = figure.axes[0]
    bars = [path for bars in axes.collections for path in bars.get_paths()]
    assert len(bars) == len(tasks)
    seen = sorted((b.get_extents().x0, b.get_extents().x1, round(b.get_extents().y0 + 0.4)) for b in bars)
    lane = {name: index for index, name in enumerate(result.workers)}
    expected = sorted((t.start_s, t.end_s, lane[t.worker]) for t in tasks.itertuples())
    assert np.array(seen) == pytest.approx(np.array(expected))
    assert axes.lines[0].get_xdata().tolist() == [0, 2, 4, 6]
    assert [t.get_text() for t in axes.get_yticklabels()] == result.workers
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert_everything_is_inside(figure)


def test_timeline_shows_a_window(result):
    tasks = tables.tasks(result)
    figure = timeline(tasks, window_s=(3.0, 5.0), workers=[*result.workers, "idle"])
    bars = [path for bars in figure.axes[0].collections for path in bars.get_paths()]
    assert len(bars) == ((tasks["end_s"] > 3) & (tasks["start_s"] < 5)).sum()
    assert figure.axes[0].get_xlim() == (3, 5)
    with pytest.raises(ValueError, match="not among"):
        timeline(tasks, workers=["idle"])
    with pytest.raises(ValueError, match="kind 'sleep'"):
        timeline(tasks.assign(kind="sleep"))


# -- files and globals ------------------------------------------------------------------------------------


def test_files_have_the_same_bytes_each_time_and_embedded_fonts(tmp_path):
    for name in ("one", "two"):
        png, pdf = save(response_curves(points()), tmp_path / f"{name}.pdf")
        assert (png.name, pdf.name) == (f"{name}.png", f"{name}.pdf")
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    data = (tmp_path / "one.pdf").read_bytes()
    assert b"CreationDate" not in data
    assert b"FontFile2" in data
    assert b"/Type3" not in data
    assert (tmp_path / "one.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(list(tmp_path.iterdir())) == 4


def test_settings_of_the_user_neither_matter_nor_change(tmp_path):
    plain = save(response_curves(points()), tmp_path / "plain")[0].read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert save(response_curves(points()), tmp_path / "mine")[0].read_bytes() == plain
        assert dict(matplotlib.rcParams) == before


def test_importing_loads_neither_matplotlib_nor_pandas():
    modules = "statistics tables summary folder perfetto"
    code = (
        f"import sys; from edgesched.runs import {modules.replace(' ', ', ')}; import edgesched.sim.plots; "
        + ("assert not {'matplotlib', 'pandas', 'scipy'} & set(sys.modules)")
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- labels -----------------------------------------------------------------------------------------------


def test_units_fit_their_size():
    assert [time_unit(t)[1] for t in (3e-9, 2e-5, 0.5, 1, 599, 601, 4e4, 1e6)] == [
        "ns", "µs", "ms", "s", "s", "min", "h", "d",
    ]  # fmt: skip
    assert bytes_unit(3 << 20) == (1 << 20, "MiB")
    assert bytes_unit(24e6, limit_bytes=32e6) == (1e6, "MB")


def test_sizes_are_written_as_people_write_them():
    sizes = {512 << 20: "512 MiB", 3 << 29: "1.5 GiB", 100_000_000: "100 MB", 64_000: "64 kB", 1000: "1 kB"}
    assert {size: bytes_label(size) for size in sizes} == sizes
    assert bytes_label(float("nan")) == "no limit"
    assert bytes_label(123_456_789) == "117.7 MiB"


def test_numbers_on_logarithmic_axes():
    assert [plain_number(x) for x in (0.002, 50, 20_000, 1e6, 2e-5)] == [
        "0.002", "50", "20000", "$10^{6}$", "$2\\times 10^{-5}$",
    ]  # fmt: skip


def test_shortened_names_stay_different():
    names = [f"a long beginning {i} and a long end" for i in range(3)]
    assert len(set(shortened(names, 10))) == 3
    assert shortened(["abcdefghij"], 5) == ["ab…ij"]
    assert shortened(["a$b$c"], 9) == [r"a\$b\$c"]

"""Scenario files: what is read, what is refused, and where the message points."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgesched.devices.reading import MAX_NODES, InputError, parse
from edgesched.runs.load import load_scenario, parse_setting, read_source

EXAMPLES = Path(__file__).parent.parent / "examples"
BASE = (EXAMPLES / "hand-worked.yaml").read_text(encoding="utf-8")


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in BASE
    path = tmp_path / "case.yaml"
    path.write_text(BASE.replace(old, new, 1), encoding="utf-8")
    return path


def refused(path: Path, **overrides: object) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", ["hand-worked", "own-policy", "theory-mm1", "masa-raspberry-pi"])
def test_every_example_loads(name: str) -> None:
    scenario, folder = load_scenario(EXAMPLES / f"{name}.yaml")
    assert scenario.name == name
    assert folder == EXAMPLES


@pytest.mark.parametrize("name", ["own-policy", "masa-raspberry-pi"])
def test_every_point_of_the_examples_sweeps_is_checked(name: str) -> None:
    points = read_source(EXAMPLES / f"{name}.yaml").points(version="1")
    assert len({point.key for point in points}) == len(points) > 40


@pytest.mark.parametrize(
    ("old", "new", "line_of", "words"),
    [
        ("requests: 2", "requestz: 2", "run:", ["run.requestz", "did you mean requests?"]),
        ("requests: 2", "requests: true", "run:", ["run.requests", "true"]),
        ("period_s: 8", "period: 8", "  arrivals:", ["workload.arrivals.period", "period_s"]),
        ("load_s: 2,", "lod_s: 2,", "      - {name: conv, lod", ["networks.0.layers.0.lod_s", "load_s"]),
        ("board: ideal", "board: idea", "device:", ["device", "did you mean ideal"]),
        ("name: masa", "name: mas", "policy:", ["policy", "did you mean 'masa'"]),
        ("[large, small]", "[large, smal]", "  networks: [large", ["did you mean small?"]),
        ("memory_limit: 7000", "runtime: {versio: A}", "  runtime:", ["device.runtime.versio", "version"]),
        ("bytes: 4000", "bytes: 4000, weight_bytes: 1", "      - {name: conv", ["give one of them"]),
    ],
)
def test_a_wrong_key_is_named_with_its_line_and_the_nearest_one(
    tmp_path: Path, old: str, new: str, line_of: str, words: list[str]
) -> None:
    path = changed(tmp_path, old, new)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith(line_of))
    message = refused(path)
    assert message.startswith(f"{path}:{line}: ")
    assert all(word in message for word in words), message


def test_scalars_are_those_of_yaml_1_2() -> None:
    data = parse("[1e-3, yes, 1:30, 2020-01-01, 010, 0x10, .inf, ~, '5', true]", "text").data
    assert data == [1e-3, "yes", "1:30", "2020-01-01", 10, 16, float("inf"), None, "5", True]


def test_anchors_and_merge_keys() -> None:
    data = parse("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x", "text").data
    assert data == {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}, "e": {"b": 1, "c": 2}}


def test_an_alias_bomb_is_refused_before_it_is_written_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    with pytest.raises(InputError, match=str(MAX_NODES)):
        parse("\n".join(lines), "bomb")


def test_settings_from_the_command_line(tmp_path: Path) -> None:
    overrides = dict(map(parse_setting, ["device.memory_limit=8 KiB", "policy=fifo", "run.seed=7"]))
    scenario, _ = load_scenario(changed(tmp_path, "requests: 2", "requests: 2"), overrides)
    assert scenario.device.memory_limit == 8192
    assert scenario.policy.name == "fifo"
    assert scenario.policy.parameters == {}
    assert scenario.run.seed == 7


def test_a_wrong_setting_is_named_as_an_option(tmp_path: Path) -> None:
    path = changed(tmp_path, "requests: 2", "requests: 2")
    assert refused(path, **{"run.requests": 0}).startswith("--set run.requests=0: ")
    assert "did you mean 'masa'" in refused(path, policy="mass")
    assert "nearest existing path is 'run.requests'" in refused(path, **{"run.a.b": 1})
    with pytest.raises(InputError, match="path=value"):
        parse_setting("run.requests")


def test_the_point_that_is_wrong_is_named(tmp_path: Path) -> None:
    sweep = "run: {requests: 2}\nsweep:\n  device.memory_limit: [7000, 8000]\n  policy: [fifo, masaa]\n"
    path = changed(tmp_path, "run: {requests: 2}", sweep)
    with pytest.raises(InputError) as caught:
        read_source(path).points(version="1")
    message = str(caught.value)
    line = path.read_text().splitlines().index("  policy: [fifo, masaa]") + 1
    assert message.startswith(f"{path}:{line}: policy: unknown policy 'masaa'")
    assert "device.memory_limit=7000" in message


def test_the_key_of_a_point_follows_its_content(tmp_path: Path) -> None:
    def keys(text: str) -> set[str]:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return {point.key for point in read_source(path).points(version="1")}

    text = BASE + "\nsweep: {policy: [fifo, linear]}\n"
    first = keys(text)
    assert keys(text.replace("description: Two", "description: 2")) == first
    assert keys(text.replace("requests: 2}", "requests: 2, replications: 2}")) > first
    assert keys(text.replace("[fifo, linear]", "[fifo, linear, sjf]")) > first
    assert not keys(text.replace("period_s: 8", "period_s: 9")) & first


def test_a_changed_file_changes_the_key(tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_text("arrival_s\n1\n2\n")
    text = BASE.replace("process: deterministic, period_s: 8", "process: replay, file: times.csv")
    path = tmp_path / "sweep.yaml"
    path.write_text(text + "\nsweep: {policy: [fifo]}\n", encoding="utf-8")
    before = read_source(path).points(version="1")[0].key
    assert read_source(path).points(version="1")[0].key == before
    (tmp_path / "times.csv").write_text("arrival_s\n1\n3\n")
    assert read_source(path).points(version="1")[0].key != before


def test_a_closed_stream_that_takes_no_time_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zero.yaml"
    path.write_text(
        "device: ideal\nnetworks: [{name: n, layers: [{}]}]\n"
        "workload: {arrivals: {process: batch}, networks: [n]}\npolicy: fifo\nrun: {duration_s: 1}\n"
    )
    assert "without end" in refused(path)

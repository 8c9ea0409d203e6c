"""Profiles and published numbers: reading, writing, what is refused, and what the embedded tables hold."""

import dataclasses
import math
import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesched.traces import table
from edgesched.traces.importers import import_edgecaffe
from edgesched.traces.profile import (
    COLUMNS,
    Profile,
    ProfileError,
    ProfileRow,
    names,
    read_profile,
    write_profile,
)
from edgesched.traces.published import network_keys, published_totals
from edgesched.workloads.catalogue import build

EMBEDDED = "edgecaffe-laptop"
TRACES = Path(__file__).resolve().parents[1] / "traces"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "edgecaffe"
MIB = 1 << 20


def put(folder: Path, content: str | bytes) -> Path:
    path = folder / "p.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(folder: Path, content: str | bytes) -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        read_profile(put(folder, content))
    return caught.value


def test_a_small_profile_by_hand(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "# source: my board\n# role: held-out\n"
        "network,layer,name,op,threads,load_s,execute_s\n"
        "N, 0,conv1,convolution,1,0.5,1e-3\n"
        'N,1,"a,b",relu,,,0\n',
    )
    profile = read_profile(path)
    assert profile.metadata == {"source": "my board", "role": "held-out"}
    assert profile.networks == ("N",)
    assert profile.layer("N", 0) == ProfileRow(
        "N", 0, "conv1", "convolution", threads=1, load_s=0.5, execute_s=1e-3
    )
    assert profile.layer("N", 1) == ProfileRow("N", 1, "a,b", "relu", execute_s=0.0)
    assert profile.layer("N", 2) is None
    assert profile.layer("M", 0) is None
    assert profile.layer("N", 0, threads=2) is None


def test_primitives_threads_and_whole_networks() -> None:
    rows = (
        ProfileRow("N", None, init_s=0.2, peak_bytes=7, held_bytes=5, cold_load_s=3.0),
        ProfileRow("N", 0, primitive="im2row", threads=1, execute_s=1.0),
        ProfileRow("N", 0, primitive="im2row", threads=4, execute_s=0.3),
        ProfileRow("N", 0, primitive="winograd", threads=1, execute_s=0.5),
        ProfileRow("N", 1, threads=1, execute_s=1.0),
        ProfileRow("N", 1, primitive="fast", threads=1, execute_s=0.9),
    )
    profile = Profile(rows)
    assert profile.layer("N", None) is rows[0]
    assert profile.layer("N", 0, "im2row", 4) is rows[2]
    assert profile.layer("N", 0, threads=4) is rows[2]
    assert profile.layer("N", 0, "winograd") is rows[3]
    assert profile.layer("N", 0, "winograd", 4) is None
    assert profile.layer("N", 1) is rows[4], "the row that leaves the primitive blank"
    assert profile.rows_of("N", 0) == rows[1:4]
    with pytest.raises(ProfileError, match=r"3 rows; say which: primitive im2row, winograd; threads 1, 4"):
        profile.layer("N", 0)


def test_rows_of_one_thing_are_refused() -> None:
    row = ProfileRow("N", 0, execute_s=1.0)
    with pytest.raises(ProfileError, match="row 2 repeats 'N', layer 0"):
        Profile((row, dataclasses.replace(row, execute_s=2.0)))


HEAD = "network,layer,execute_s\n"


@pytest.mark.parametrize(
    ("content", "line", "column", "words"),
    [
        ("", None, None, "no line of column names"),
        ("# a: b\n", None, None, "no line of column names"),
        ("network,layer\nN,0\n", None, None, "measures nothing"),
        ("network,execute_s\nN,1\n", 1, None, "column 'layer' is missing; it needs network, layer"),
        ("network,layer,exec_s\n", 1, None, "unknown column 'exec_s'; did you mean 'execute_s'"),
        ("network;layer;execute_s\n", 1, None, "unknown column"),
        ("network,layer,layer,load_s\n", 1, None, "'layer' stands there 2 times"),
        ("# no colon\n" + HEAD, 1, None, "'# key: value'"),
        ("# A: b\n# a: c\n# a: d\n" + HEAD, 1, None, "'# key: value'"),
        ("# a: c\n# a: d\n" + HEAD, 2, None, "says 'a' twice"),
        ("# edgesched: totals 1\n" + HEAD, 1, None, "'totals 1'; expected 'profile 1'"),
        ("# edgesched: profile 9\n" + HEAD, 1, None, "'profile 9'; expected 'profile 1'"),
        (HEAD + "N,0,nan\n", 2, "execute_s", "seen 'nan'; allowed: seconds"),
        (HEAD + "N,0,inf\n", 2, "execute_s", "seen 'inf'"),
        (HEAD + "N,0,1\nN,1,-0.5\n", 3, "execute_s", "seen '-0.5'"),
        (HEAD + "N,0,1_0\n", 2, "execute_s", "seen '1_0'"),
        (HEAD + "N,0,1e400\n", 2, "execute_s", "seen '1e400'"),
        (HEAD + 'N,0,"0,5"\n', 2, "execute_s", "seen '0,5'"),
        ("# a: b\n" + HEAD + "\nN,1.5,1\n", 4, "layer", "seen '1.5'"),
        (HEAD + "N,-1,1\n", 2, "layer", "seen '-1'"),
        (HEAD + "N,²,1\n", 2, "layer", "seen '²'"),
        (HEAD + " ,0,1\n", 2, "network", "seen ' '"),
        (HEAD + "N,0\n", 2, None, "has 2 cells; the line of column names has 3"),
        (HEAD + "N,0,1,\n", 2, None, "has 4 cells"),
        (HEAD + "N,0,1\nM,0,1\nN,0,2\n", 4, None, "repeats 'N', layer 0 .* first on line 2"),
        (HEAD + 'N,0,"1\n', 2, None, "not CSV"),
        (HEAD + '"N\nM",0,1\n', 3, "network", "one line"),
        (HEAD + "N\x00,0,1\n", 2, "network", "one line"),
        (HEAD + f"{'x' * 200_000},0,1\n", 2, None, "not CSV"),
        (HEAD.encode() + b"N\xff,0,1\n", 2, None, "byte 0xff at position 25 is not UTF-8"),
        ("network,layer,execute_s\n".encode("utf-16"), 1, None, "not UTF-8"),
        ("network,layer,threads,load_s\nN,0,0,1\n", 2, "threads", "seen '0'"),
        ("network,layer,frequency_hz,load_s\nN,0,0,1\n", 2, "frequency_hz", "above 0"),
        ("network,layer,weight_bytes,load_s\nN,0,9999999999999999999,1\n", 2, "weight_bytes", "bytes"),
    ],
)
def test_what_is_refused_and_where(
    tmp_path: Path, content: str | bytes, line: int | None, column: str | None, words: str
) -> None:
    error = refused(tmp_path, content)
    assert (error.line, error.column) == (line, column)
    assert error.path == str(tmp_path / "p.csv")
    with pytest.raises(ProfileError, match=words):
        raise error
    assert len(str(error)) < 700


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(
        st.lists(
            st.sampled_from(["network", "layer", "load_s", "N", "0", "-1", "", "nan", '"', "#", "\r", "1e9"])
        ),
        max_size=6,
    ).map(lambda rows: "\n".join(",".join(row) for row in rows).encode())
)
def test_garbage_is_an_error_with_words_not_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.csv"
    path.write_bytes(content)
    message = ""
    try:
        read_profile(path)
    except ProfileError as error:
        message = str(error)
    assert message == "" or message.startswith(str(path))


def test_what_is_not_a_file(tmp_path: Path) -> None:
    for path, words in [
        (tmp_path, "folder"),
        (tmp_path / "no.csv", "no such file"),
        (Path("a\0.csv"), "read"),
    ]:
        with pytest.raises(ProfileError, match=words):
            read_profile(path)
    os.mkfifo(tmp_path / "fifo.csv")
    with pytest.raises(ProfileError, match="not a regular file"):
        read_profile(tmp_path / "fifo.csv")


def test_caps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, HEAD + "N,0,1\nN,1,1\nN,2,1\n")
    monkeypatch.setattr(table, "MAX_ROWS", 2)
    with pytest.raises(ProfileError, match="more than 2 rows") as caught:
        read_profile(path)
    assert caught.value.line == 4
    monkeypatch.setattr(table, "MAX_FILE_BYTES", 10)
    with pytest.raises(ProfileError, match="at most 10 bytes"):
        read_profile(path)


def test_an_unknown_name_lists_the_near_ones() -> None:
    with pytest.raises(ProfileError, match="did you mean 'edgecaffe-laptop'"):
        read_profile("edgecafe-laptop")
    with pytest.raises(ProfileError, match="known: edgecaffe-laptop"):
        read_profile("")
    assert names() == [EMBEDDED]


seconds = st.none() | st.floats(0, 1e9)
line_text = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"]) | st.just(" "), max_size=12
).map(str.strip)
row_values = st.builds(
    ProfileRow,
    network=line_text.filter(bool),
    layer=st.none() | st.integers(0, 1_000_000),
    name=line_text,
    op=line_text,
    primitive=line_text,
    processor=line_text,
    threads=st.none() | st.integers(1, 4096),
    frequency_hz=st.none() | st.floats(1, 1e12),
    load_s=st.floats(0, 1e9),
    cold_load_s=seconds,
    init_s=seconds,
    execute_s=seconds,
    weight_bytes=st.none() | st.integers(0, 1 << 50),
    peak_bytes=st.none() | st.integers(0, 1 << 50),
    samples=st.none() | st.integers(1, 10**9),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        row_values,
        min_size=1,
        unique_by=lambda r: (r.network, r.layer, r.primitive, r.processor, r.threads, r.frequency_hz),
    ),
    st.dictionaries(st.sampled_from(["source", "licence", "my key"]), line_text),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[ProfileRow], metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "back.csv"
    write_profile(Profile(tuple(rows), metadata), path)
    back = read_profile(path)
    assert back.rows == tuple(rows)
    assert back.metadata == metadata


@pytest.mark.parametrize(
    ("row", "metadata"),
    [
        (ProfileRow("N", 0, load_s=math.nan), {}),
        (ProfileRow("N", 0, load_s=-1.0), {}),
        (ProfileRow("", 0, load_s=1.0), {}),
        (ProfileRow("N ", 0, load_s=1.0), {}),
        (ProfileRow("N", 0, name="a\nb", load_s=1.0), {}),
        (ProfileRow("N", 0, load_s=1.0), {"source": "a\nb"}),
        (ProfileRow("N", 0, load_s=1.0), {"edgesched": "profile 1"}),
        (ProfileRow("N", 0, load_s=1.0), {"Bad:Key": "x"}),
    ],
)
def test_what_cannot_be_read_back_is_not_written(
    tmp_path: Path, row: ProfileRow, metadata: dict[str, str]
) -> None:
    path = put(tmp_path, "old")
    with pytest.raises(ProfileError):
        write_profile(Profile((row,), metadata), path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["p.csv"]


def test_numpy_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    row = ProfileRow("N", 0, execute_s=np.float64(0.25), weight_bytes=np.int64(8))  # type: ignore[arg-type]
    write_profile(Profile((row,)), tmp_path / "p.csv")
    assert read_profile(tmp_path / "p.csv").layer("N", 0) == ProfileRow(
        "N", 0, execute_s=0.25, weight_bytes=8
    )


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile((ProfileRow("N", 0, load_s=1.0),))
    path = put(tmp_path, "old")
    path.chmod(0o640)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(ProfileError, match="cannot be written: disk full"):
            write_profile(profile, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["p.csv"]
    write_profile(profile, path)
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(ProfileError, match="cannot be written"):
        write_profile(profile, tmp_path / "no" / "p.csv")


def test_a_thousand_rows_read_fast(tmp_path: Path) -> None:
    rows = tuple(
        ProfileRow(
            "N", i, f"layer{i}", "convolution", "im2row", "cpu", 4, 1.5e9, *[0.001] * 4, *[1024] * 4, 17
        )
        for i in range(1000)
    )
    path = tmp_path / "p.csv"
    write_profile(Profile(rows), path)
    took = []
    for _ in range(5):
        start = time.perf_counter()
        read_profile(path)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.1, "meant: under 20 ms; five times that on a busy machine"


def test_the_embedded_profile_is_of_the_catalogues_networks() -> None:
    profile = read_profile(EMBEDDED)
    assert profile.networks == (
        "AgeNet", "GenderNet", "FaceNet@1275", "FaceNet@1340", "FaceNet@2520", "SoS", "SoS_GoogleNet",
    )  # fmt: skip
    for name in profile.networks:
        for index, layer in enumerate(build(name).layers):
            row = profile.layer(name, index)
            assert row is not None
            assert (row.name, row.op, row.weight_bytes, row.workspace_bytes) == (
                layer.name, layer.op, layer.weight_bytes, layer.workspace_bytes,
            )  # fmt: skip
            assert row.load_s is not None
            assert row.execute_s is not None
            assert row.samples == (17 if name.startswith("FaceNet") else 51)
    assert len(profile.rows) == sum(len(build(name).layers) for name in profile.networks)


def test_the_embedded_sums_agree_with_the_published_means() -> None:
    """Section 5.1 of the data's description: means over runs in ms, sd 1 to 6 %; ours are sums of medians."""
    means = {"AgeNet": (484, 157), "GenderNet": (486, 1372), "FaceNet@1340": (1374, 14497)}
    means |= {"FaceNet@2520": (1363, 56296), "SoS": (2321, 223), "SoS_GoogleNet": (144, 4195)}
    profile = read_profile(EMBEDDED)
    for name, (load_ms, execute_ms) in means.items():
        rows = [row for row in profile.rows if row.network == name]
        assert sum(row.load_s or 0 for row in rows) == pytest.approx(load_ms / 1000, rel=0.03)
        assert sum(row.execute_s or 0 for row in rows) == pytest.approx(execute_ms / 1000, rel=0.05)


def test_keys_per_network() -> None:
    age = network_keys("AgeNet")
    assert age is not None
    assert (age.expected_s, age.reservation_bytes, age.conv_layers) == (0.294, round(161.74 * MIB), 12)
    assert age.memory_bytes["valgrind-150"] == 242 * MIB
    assert network_keys("FaceNet@1340") == network_keys("FaceNet")
    assert network_keys("FaceNet#2") is None
    assert network_keys("ResNet-50") is None
    unknown = network_keys("SoS_GoogleNet")
    assert unknown is not None
    assert (unknown.expected_s, unknown.reservation_bytes) == (math.inf, 0)


@pytest.mark.parametrize(
    "name",
    [
        "AgeNet",
        "GenderNet",
        "FaceNet",
        "SoS",
        "SoS_GoogleNet",
        "EmotionNet",
        "MemNet",
        "SceneNet",
        "ObjectNet",
        "TinyYolo",
    ],
)
def test_conv_layers_agree_with_the_catalogue(name: str) -> None:
    keys = network_keys(name)
    assert keys is not None
    assert keys.conv_layers == build(name).conv_layers


def test_published_totals() -> None:
    totals = {total.id: total for total in published_totals()}
    assert len(totals) == 31
    run = totals["run-linear-4G"]
    assert (run.value_s, run.memory_limit_bytes, run.workers, run.policy) == (39.958, 4 << 30, 1, "linear")
    assert run.networks[2::3] == ("FaceNet@1340", "FaceNet@1275", "FaceNet@2520")
    assert run.weights == ()
    mean = totals["solo-rpi-4-2G-9"]
    assert (mean.value_s, mean.se_s, mean.samples) == (5.6183, 0.0034, 22)
    for total in totals.values():
        assert total.role in ("measured", "fitted", "held-out")
        assert all(build(name) for name in total.networks)
        if total.weights:
            assert len(total.weights) == len(total.networks)
            assert sum(total.weights) == pytest.approx(2.0 if total.id == "solo-rpi-4-2G-5" else 1.0)
            assert total.kind == "solo-mean"


def test_importing_gives_the_embedded_bytes(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip("the measurement data (../shared/data/edgecaffe) is not here")
    written = import_edgecaffe(DATA, tmp_path)
    assert sorted(p.name for p in written) == sorted(p.name for p in TRACES.glob("edgecaffe-*.csv"))
    for path in written:
        assert path.read_bytes() == (TRACES / path.name).read_bytes()


def test_importing_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"network_layers\.csv: cannot be read"):
        import_edgecaffe(tmp_path, tmp_path)
    for name in ("network_layers.csv", "layers.csv"):
        (tmp_path / name).write_text("network,variant\nAgeNet,default\n")
    with pytest.raises(ProfileError, match="not the data that its README describes"):
        import_edgecaffe(tmp_path, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["layers.csv", "network_layers.csv"]


def test_every_column_is_a_field_of_a_row() -> None:
    assert list(COLUMNS) == [field.name for field in dataclasses.fields(ProfileRow)]


def test_medians_are_those_of_the_raw_rows() -> None:
    if not DATA.is_dir():
        pytest.skip("the measurement data (../shared/data/edgecaffe) is not here")
    values = [
        int(line.split(",")[-1])
        for line in (DATA / "layers.csv").read_text().splitlines()
        if ",AgeNet,1,conv1," in line
    ]
    row = read_profile(EMBEDDED).layer("AgeNet", 1)
    assert row is not None
    assert len(values) == row.samples == 51
    assert row.execute_s == pytest.approx(statistics.median(values) / 1e9, abs=5.1e-8)

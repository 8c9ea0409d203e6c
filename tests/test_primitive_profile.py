"""Primitive profiles: their files, the published names, and importing triNNity's measurements."""

import csv
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesched.primitives import layouts as layouts_of_primitives
from edgesched.primitives.published import PUBLISHED, READINGS
from edgesched.primitives.shape import ConvShape, tensor_key
from edgesched.traces.primitives import (
    LAYOUTS,
    PRIMITIVE_COLUMNS,
    PrimitiveProfile,
    PrimitiveRow,
    primitive_profile_bytes,
    primitive_profile_names,
    read_primitives,
    write_primitives,
)
from edgesched.traces.profile import names
from edgesched.traces.table import ProfileError
from edgesched.traces.trinnity import TrinnityShape, import_trinnity, read_trinnity

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "primitives"
CONV = "convolution 64x56x56 m128 k3 s1 p1 g1"
HEADER = "layer,primitive,in_layout,out_layout,execute_s,workspace_bytes,weight_bytes\n"
ROW = f"{CONV},im2row-scan-ab-ik,chw,hwc,0.004,7225344,294912\n"

# -- the table --------------------------------------------------------------------------------------------

times = st.floats(0, 1e9)
words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=40).map(
    str.strip
)
sizes = st.integers(0, 1 << 50)
layouts = st.sampled_from(("chw", "hwc", "hcw"))
rows = st.builds(
    PrimitiveRow,
    layer=words.filter(bool),
    primitive=words.filter(bool),
    in_layout=layouts,
    out_layout=layouts,
    execute_s=times,
    execute_sd_s=st.none() | times,
    samples=st.none() | st.integers(1, 10**9),
    even_s=st.none() | times,
    odd_s=st.none() | times,
    workspace_bytes=sizes,
    weight_bytes=sizes,
    processor=words,
    threads=st.none() | st.integers(1, 4096),
)


def identity(row: PrimitiveRow) -> tuple[object, ...]:
    return row.layer, row.primitive, row.processor, row.threads


@given(st.lists(rows, max_size=6, unique_by=identity))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, found: list[PrimitiveRow]
) -> None:
    path = tmp_path_factory.mktemp("profile") / "p.csv"
    before = PrimitiveProfile(tuple(found), {"source": "a test", "role": "measured"})
    write_primitives(before, path)
    after = read_primitives(path)
    assert after.rows == before.rows
    assert dict(after.metadata) == dict(before.metadata)
    assert primitive_profile_bytes(after) == path.read_bytes()


def test_rows_are_found_by_layer_in_the_order_of_the_file() -> None:
    conv, pool = PrimitiveRow(CONV, "b", "chw", "chw", 1.0), PrimitiveRow("pooling x", "p", "chw", "chw", 0.1)
    other = dataclasses.replace(conv, primitive="a")
    profile = PrimitiveProfile((conv, pool, other))
    assert profile.of(CONV) == (conv, other)
    assert profile.layers == (CONV, "pooling x")
    assert profile.of("convolution nowhere") == ()


def test_the_same_primitive_on_other_threads_or_processors_is_another_row() -> None:
    row = PrimitiveRow(CONV, "a", "chw", "chw", 1.0, processor="big", threads=1)
    kinds = (row, dataclasses.replace(row, threads=2), dataclasses.replace(row, processor="little"))
    assert len(PrimitiveProfile(kinds).of(CONV)) == 3
    with pytest.raises(ProfileError, match="row 4 repeats 'a'"):
        PrimitiveProfile((*kinds, dataclasses.replace(row, execute_s=2.0)))


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        (HEADER + ROW.replace("0.004", "nan"), 2, "execute_s"),
        (HEADER + ROW.replace("0.004", "-1"), 2, "execute_s"),
        (HEADER + ROW.replace("0.004", ""), 2, "execute_s"),
        (HEADER + ROW.replace("chw", "nchw"), 2, "in_layout"),
        (HEADER + ROW.replace("hwc", "HWC"), 2, "out_layout"),
        (HEADER + ROW.replace("7225344", "7e6"), 2, "workspace_bytes"),
        (HEADER + ROW.replace("294912", ""), 2, "weight_bytes"),
        (HEADER + ROW.replace(CONV, " "), 2, "layer"),
        (HEADER + ROW + ROW, 3, None),
        ("# source: x\n" + HEADER + ROW + ROW, 4, None),
        (HEADER + ROW.replace(",294912", ""), 2, None),
        (HEADER.replace("weight_bytes", "weights"), 1, None),
        (HEADER.replace(",weight_bytes", ""), 1, None),
        ("# edgesched: profile 1\n" + HEADER, 1, None),
        ("", None, None),
    ],
)
def test_a_bad_file_is_refused_and_says_where(
    tmp_path: Path, content: str, line: int | None, column: str | None
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ProfileError) as found:
        read_primitives(path)
    assert (found.value.path, found.value.line, found.value.column) == (str(path), line, column)


@pytest.mark.parametrize(
    "change", [{"execute_s": float("nan")}, {"in_layout": "nchw"}, {"workspace_bytes": -1}]
)
def test_what_reading_would_refuse_is_not_written(tmp_path: Path, change: dict[str, object]) -> None:
    row = dataclasses.replace(PrimitiveRow(CONV, "a", "chw", "chw", 1.0), **change)  # type: ignore[arg-type]
    path = tmp_path / "p.csv"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(ProfileError):
        write_primitives(PrimitiveProfile((row,)), path)
    assert path.read_text(encoding="utf-8") == "before"


def test_the_embedded_ones_are_not_among_the_profiles() -> None:
    assert not set(primitive_profile_names()) & set(names())
    for name in primitive_profile_names():
        profile = read_primitives(name)
        assert profile.rows
        assert {"source", "licence", "conditions", "role"} <= set(profile.metadata)


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(ProfileError, match="there is none of that name"):
        read_primitives("no-such-machine")


def test_layouts_are_those_of_the_primitives() -> None:
    assert LAYOUTS == layouts_of_primitives.LAYOUTS


def test_every_column_is_a_field() -> None:
    assert list(PRIMITIVE_COLUMNS) == [field.name for field in dataclasses.fields(PrimitiveRow)]


# -- the published names ----------------------------------------------------------------------------------

SHAPE = ConvShape(96, 27, 31, 256, 5, 1, 2)
"""C 96, H 27, W 31, M 256, K 5; Ho 27, Wo 31, P 2."""
BY_HAND = {
    "direct-sum2d": (0, 0),
    "im2col-copy-self-atb-ik": (25 * 96 * 27 * 31,) * 2,
    "im2row-scan-abt-ki": (25 * 96 * 27 * 31,) * 2,
    "mec-col": (5 * 96 * 31 * 31,) * 2,
    "kn2col": (25 * 256 * 27 * 31,) * 2,
    "kn2row-as": (256 * 27 * 31,) * 2,
    "kn2row-aa-abt": (5 * 31, 256 * 27 * 4 + 96 * (31 * 35 + 4)),
    "winograd-3-5-vec-4": (7 * 352 * 27 * 11,) * 2,
    "winograd-4x4-5x5-vec-16": (64 * 352 * 7 * 8,) * 2,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_workspaces_by_hand(name: str) -> None:
    found = tuple(PUBLISHED[name].workspace_elements(SHAPE, reading) for reading in READINGS)
    assert found == BY_HAND[name]
    assert PUBLISHED[name].workspace_bytes(SHAPE) == 4 * BY_HAND[name][0]


def test_the_output_of_a_strided_convolution_rounds_up() -> None:
    shape = ConvShape(3, 227, 227, 96, 11, 4, 5)
    assert PUBLISHED["im2row-scan-ab-ik"].workspace_elements(shape) == 121 * 3 * 57 * 57
    assert PUBLISHED["mec-col"].workspace_elements(shape) == 11 * 3 * 57 * 237


@pytest.mark.parametrize(
    ("kernel", "stride", "count"), [(3, 1, 51), (5, 1, 51), (1, 1, 43), (3, 2, 19), (11, 4, 19)]
)
def test_how_many_compute_a_shape(kernel: int, stride: int, count: int) -> None:
    shape = ConvShape(8, 32, 32, 8, kernel, stride, kernel // 2)
    assert sum(each.refuses(shape) is None for each in PUBLISHED.values()) == count
    grouped = dataclasses.replace(shape, groups=2)
    assert all(each.refuses(grouped) for each in PUBLISHED.values())


def test_names_and_properties_are_those_of_the_catalogue() -> None:
    if not DATA.is_dir():
        pytest.skip("the measurement data (../shared/data/primitives) is not here")
    with (DATA / "primitive_catalogue.csv").open(encoding="utf-8", newline="") as file:
        catalogue = {row["primitive"]: row for row in csv.DictReader(file)}
    assert set(catalogue) == set(PUBLISHED)
    for name, row in catalogue.items():
        own = PUBLISHED[name]
        assert (own.family, own.in_layout, own.out_layout) == (
            row["family"],
            row["in_layout"],
            row["out_layout"],
        )
        assert str(own.kernel or "any") == row["kernel_size"], name
        assert ("1" if own.unit_stride else "any") == row["stride"].strip("*"), name
        published = float(row["relative_gemm_multiplies_vs_direct"])
        assert own.relative_multiplies == pytest.approx(published, abs=6e-5), name


# -- triNNity's files -------------------------------------------------------------------------------------

PRIMITIVES_CSV = """\
layer,kernels_m,channels_c,stride,width,height,k,primitive,family,in_layout,out_layout,applicable,cycles_mean,time_ns_mean
one,4,3,1,8,6,3,direct-sum2d,direct,chw,chw,1,,1000.5
two,4,4,1,8,6,3,direct-sum2d,direct,chw,chw,1,,900
one,4,3,1,8,6,3,winograd-2-3,winograd1d,hwc,hwc,1,,500
two,4,4,1,8,6,3,winograd-2-5,winograd1d,hwc,hwc,0,,
"""
TRANSFORMS_CSV = """\
tensor_of_layer_input,channels,width,height,from_layout,to_layout,cycles_mean,time_ns_mean
one,3,8,6,chw,hwc,,30
one,3,8,6,chw,chw,,5
two,4,8,6,hwc,chw,,40
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    primitives, transforms = tmp_path / "a_profile.csv", tmp_path / "a_transforms.csv"
    primitives.write_text(PRIMITIVES_CSV, encoding="utf-8")
    transforms.write_text(TRANSFORMS_CSV, encoding="utf-8")
    return primitives, transforms


def workspace(name: str, shape: TrinnityShape) -> int:
    conv = ConvShape(
        shape.channels, shape.height, shape.width, shape.kernels, shape.kernel, shape.stride, shape.pad
    )
    assert shape.layer_key == f"convolution {conv.key}"
    assert shape.tensor_key == tensor_key((conv.channels, conv.height, conv.width))
    return PUBLISHED[name].workspace_bytes(conv)


def test_a_chain_becomes_a_profile(files: tuple[Path, Path]) -> None:
    profile, layers = import_trinnity(*files, workspace)
    assert [layer.name for layer in layers] == ["one", "two"]
    assert [each.name for each in layers[1].primitives] == ["direct-sum2d"]
    assert layers[0].transforms_ns == {("chw", "hwc"): 30.0}
    direct, winograd = profile.of("convolution 3x6x8 m4 k3 s1 p1 g1")
    assert (direct.primitive, direct.execute_s, direct.workspace_bytes) == ("direct-sum2d", 1000.5e-9, 0)
    assert (winograd.in_layout, winograd.workspace_bytes) == ("hwc", 4 * 4 * 7 * 6 * 4)
    assert direct.weight_bytes == winograd.weight_bytes == 4 * 3 * 9 * 4
    (transform,) = profile.of("transform 3x6x8")
    assert (transform.primitive, transform.in_layout, transform.out_layout) == ("chw-to-hwc", "chw", "hwc")
    assert transform.execute_s == pytest.approx(30e-9)
    assert (transform.workspace_bytes, transform.weight_bytes) == (0, 0)


def test_equal_layers_share_their_rows(files: tuple[Path, Path]) -> None:
    files[0].write_text(PRIMITIVES_CSV.replace("two,4,4", "two,4,3"), encoding="utf-8")
    files[1].write_text(TRANSFORMS_CSV.replace("two,4", "two,3"), encoding="utf-8")
    profile, layers = import_trinnity(*files, workspace)
    direct, _ = profile.of("convolution 3x6x8 m4 k3 s1 p1 g1")
    assert direct.execute_s == pytest.approx(950.25e-9)
    assert [layer.primitives[0].time_ns for layer in layers] == [1000.5, 900.0]


@pytest.mark.parametrize(
    ("which", "old", "new", "line", "column"),
    [
        (0, "1000.5", "soon", 2, "time_ns_mean"),
        (0, "1000.5", "", 2, "time_ns_mean"),
        (0, "hwc,0,,", "hwc,0,,7", 5, "time_ns_mean"),
        (0, "hwc,0,,", "hwc,2,,", 5, "applicable"),
        (0, "one,4,3,1,8,6,3,wino", "one,4,3,2,8,6,3,wino", 4, "layer"),
        (0, "winograd-2-3,", "direct-sum2d,", 4, "primitive"),
        (0, "direct,chw,chw,1,,900", "direct,chw,whc,1,,900", 3, "out_layout"),
        (0, "two,4,4", "two,4,0", 3, "channels_c"),
        (1, "two,4", "three,4", 4, "tensor_of_layer_input"),
        (1, "two,4", "two,5", 4, "channels"),
        (1, "chw,chw,,5", "chw,hwc,,5", 3, "to_layout"),
        (1, ",40", ",", 4, "time_ns_mean"),
    ],
)
def test_a_bad_file_of_trinnity_says_where(
    files: tuple[Path, Path], which: int, old: str, new: str, line: int, column: str
) -> None:
    content = files[which].read_text(encoding="utf-8")
    assert old in content
    files[which].write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ProfileError) as found:
        read_trinnity(*files)
    assert (found.value.path, found.value.line, found.value.column) == (str(files[which]), line, column)


def test_a_layer_that_nothing_computes_is_refused(files: tuple[Path, Path]) -> None:
    files[0].write_text(PRIMITIVES_CSV.replace("chw,chw,1,,900", "chw,chw,0,,"), encoding="utf-8")
    with pytest.raises(ProfileError, match="no primitive computes 'two'"):
        read_trinnity(*files)

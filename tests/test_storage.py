"""Reading weights: what arrives, at which rate, and what is refused."""

import os
import threading
import time

import pytest

from edgesched.bridge.machine import storage
from edgesched.bridge.machine.mapped import MappedFile
from edgesched.bridge.machine.memory import Region
from edgesched.bridge.machine.storage import Pace, StorageError, WeightsFile

KIB = 1024
MIB = 1024**2
SIZE = 2 * MIB


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.raw"
    content = os.urandom(SIZE)
    path.write_bytes(content)
    try:
        WeightsFile(path, "direct").close()
    except StorageError as error:
        pytest.skip(str(error))
    return path, content


@pytest.fixture
def region():
    with Region(SIZE) as region:
        yield region


@pytest.mark.parametrize("mode", ["direct", "cached"])
@pytest.mark.parametrize("pace", [None, Pace(1e9, 64 * KIB)])
def test_the_bytes_arrive(file, region, mode, pace):
    path, content = file
    with WeightsFile(path, mode, pace) as weights:
        assert weights.size_bytes == SIZE
        weights.read_into(region.view(4096, MIB + 4096), 512 * KIB)
    assert bytes(region.view(4096, MIB + 4096)) == content[512 * KIB : 512 * KIB + MIB + 4096]
    assert bytes(region.view(0, 4096)) == bytes(4096)


def test_typed_memory_is_filled_byte_by_byte(file, region):
    path, content = file
    with WeightsFile(path) as weights:
        weights.read_into(region.view(0, 8192).cast("f"), 4096)
    assert bytes(region.view(0, 8192)) == content[4096 : 4096 + 8192]


def test_reading_nothing(file, region):
    with WeightsFile(file[0], pace=Pace(1.0)) as weights:
        weights.read_into(region.view(0, 0), 0)


def test_many_threads_read_at_once(file, region):
    path, content = file
    with WeightsFile(path, pace=Pace(1e9, 4096)) as weights:
        part = SIZE // 8
        threads = [
            threading.Thread(target=weights.read_into, args=(region.view(i * part, part), i * part))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bytes(region.view(0, SIZE)) == content


def test_short_reads_are_continued(file, region, monkeypatch):
    path, content = file
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: whole(fd, [views[0][: 64 * KIB]], at))
    with WeightsFile(path) as weights:
        weights.read_into(region.view(0, SIZE), 0)
    assert bytes(region.view(0, SIZE)) == content


@pytest.mark.parametrize("mode", ["direct", "cached"])
@pytest.mark.parametrize("size", [8192, 8192 + 100])
def test_a_file_that_ends_too_soon(file, region, mode, size):
    path, _ = file
    os.truncate(path, size)
    with (
        WeightsFile(path, mode) as weights,
        pytest.raises(StorageError, match=f"ends at byte {size}, 16384 bytes were expected"),
    ):
        weights.read_into(region.view(0, 12288), 4096)


@pytest.mark.parametrize(
    ("start", "n", "offset", "seen"),
    [(0, 4096, 100, "offset 100"), (0, 4000, 0, "length 4000"), (512, 4096, 0, "memory address")],
)
def test_direct_reads_need_aligned_numbers(file, region, start, n, offset, seen):
    path, content = file
    view = region.view(start, n)
    with WeightsFile(path) as weights, pytest.raises(StorageError, match=f"multiples of 4096, seen {seen}"):
        weights.read_into(view, offset)
    with WeightsFile(path, "cached") as weights:
        weights.read_into(view, offset)
    assert bytes(view) == content[offset : offset + n]


def test_direct_reads_leave_the_cache_empty_and_cached_ones_fill_it(file, region):
    path, _ = file
    with MappedFile(path) as mapped, WeightsFile(path) as direct, WeightsFile(path, "cached") as cached:
        direct.evict()
        assert mapped.resident_bytes() == 0
        direct.read_into(region.view(0, SIZE), 0)
        assert mapped.resident_bytes() == 0
        cached.read_into(region.view(0, SIZE), 0)
        assert mapped.resident_bytes() == SIZE
        cached.evict(0, MIB)
        assert mapped.resident_bytes(0, MIB) == 0
        assert mapped.resident_bytes(MIB, MIB) == MIB
        cached.evict()
        assert mapped.resident_bytes() == 0


def test_a_file_system_without_direct_reads_is_named_with_the_way_out():
    with pytest.raises(StorageError, match=r"/proc/self/maps.*O_DIRECT.*'cached'"):
        WeightsFile("/proc/self/maps", "direct")


def test_a_missing_file(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        WeightsFile(tmp_path / "none", "cached")


def test_pieces_of_a_read_follow_each_other_without_a_gap():
    pace = Pace(bytes_per_s=1000)
    start = time.monotonic()
    first = pace.book(500, start)
    assert first == pytest.approx(start + 0.5)
    # The thread woke up late, or early: the clock goes on from the end of the piece before.
    assert pace.book(500, first) == pytest.approx(start + 1.0)


def test_readers_share_the_rate():
    pace = Pace(bytes_per_s=1000)
    start = time.monotonic()
    one, other = pace.book(500, start), pace.book(500, start)
    one, other = pace.book(500, one), pace.book(500, other)
    assert (one, other) == (pytest.approx(start + 1.5), pytest.approx(start + 2.0))


def test_an_idle_disk_earns_nothing():
    pace = Pace(bytes_per_s=1000)
    start = time.monotonic()
    pace.book(500, start)
    assert pace.book(500, start + 10) == pytest.approx(start + 10.5)


def test_a_late_thread_catches_up_by_one_piece_at_most():
    pace = Pace(bytes_per_s=8192, piece_bytes=8192)
    now = time.monotonic()
    # Booked for a read that began 100 s ago: one second of it is given back.
    assert pace.book(8192, now - 100) >= now
    assert pace.book(8192, now - 100) >= now + 1


def test_no_read_is_faster_than_the_pace(file, region):
    with WeightsFile(file[0], pace=Pace(20e6, 64 * KIB)) as weights:
        start = time.monotonic()
        weights.read_into(region.view(0, SIZE), 0)
        weights.read_into(region.view(0, 4096), 0)
        assert time.monotonic() - start >= (SIZE + 4096) / 20e6


def test_take_waits():
    pace = Pace(1e6)
    storage.precise_timers()
    start = time.monotonic()
    for _ in range(3):
        pace.take(4000)
    assert time.monotonic() - start >= 0.012


def test_waiting_for_the_past_returns():
    storage.wait_until(time.monotonic() - 1)


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ((0,), "rate"),
        ((-1,), "rate"),
        ((float("inf"),), "rate"),
        ((float("nan"),), "rate"),
        ((1e6, 1000), "1000"),
    ],
)
def test_paces_that_cannot_be(arguments, seen):
    with pytest.raises(StorageError, match=seen):
        Pace(*arguments)


def test_measuring_leaves_nothing_behind(file, tmp_path):
    before = set(tmp_path.iterdir())
    rate = storage.measure_read_rate(tmp_path, size_bytes=MIB, rounds=3)
    assert rate.bytes_per_s > 0
    assert rate.spread >= 0
    assert 0 < rate.request_s < 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("folder", "size"), [("none", MIB), (".", 1000), (".", 0)])
def test_measuring_what_cannot_be_measured(tmp_path, folder, size):
    with pytest.raises(StorageError):
        storage.measure_read_rate(tmp_path / folder, size_bytes=size)

"""Files of weights shown in memory: what comes in is what was asked for, and what is released leaves."""

import gc
import os
import time

import numpy as np
import pytest

from edgesched.bridge.machine import mapped as mapped_module
from edgesched.bridge.machine.mapped import MappedFile
from edgesched.bridge.machine.memory import PAGE_BYTES, RegionError
from edgesched.bridge.machine.storage import Pace

MIB = 1024**2


class Booked(Pace):
    """A pace that remembers what was read at it."""

    def __init__(self, bytes_per_s=1e12, piece_bytes=MIB):
        super().__init__(bytes_per_s, piece_bytes)
        self.pieces = []

    def book(self, n, wanted_s):
        self.pieces.append(n)
        return super().book(n, wanted_s)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.raw"
    content = np.random.default_rng(1).bytes(40 * PAGE_BYTES + 100)
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)  # what was not written to the disk yet cannot leave the cache
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    return path, content


@pytest.fixture
def large(tmp_path):
    """A mapped file of 24 MiB, nothing of it in memory."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(24 * MIB))
    with path.open("rb") as written:
        os.fsync(written)
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with MappedFile(path) as mapped:
        if mapped.resident_bytes():
            pytest.skip("this file system keeps its files in memory")
        yield mapped


def test_a_mapped_file_shows_its_content_and_cannot_be_written(file):
    path, content = file
    with MappedFile(path) as mapped:
        assert mapped.size_bytes == len(content)
        assert bytes(mapped.view(100, 5000)) == content[100:5100]
        assert mapped.address % PAGE_BYTES == 0
        with pytest.raises(TypeError):
            mapped.view(0, 1)[0] = 1


def test_released_pages_of_a_mapped_file_leave_the_cache_and_come_back(file):
    path, content = file
    with MappedFile(path) as mapped:
        mapped.populate(0, mapped.size_bytes)
        assert mapped.resident_bytes() == 41 * PAGE_BYTES
        mapped.release(0, mapped.size_bytes)
        assert mapped.resident_bytes() == 0
        assert bytes(mapped.view(len(content) - 3, 3)) == content[-3:]
        assert mapped.resident_bytes() > 0


def test_a_mapped_file_released_piece_by_piece_leaves_nothing_in_the_cache(large):
    piece = 101 * PAGE_BYTES
    for start in range(0, large.size_bytes, piece):
        count = min(piece, large.size_bytes - start)
        large.populate(start, count)
        large.release(start, count)
    assert large.resident_bytes() == 0


def test_what_another_reader_brought_in_leaves_too(large, tmp_path):
    # A plain read makes the kernel read ahead, in folios that the pieces cut, and it drops whole folios only.
    (tmp_path / "large").read_bytes()
    assert large.resident_bytes() == large.size_bytes
    piece = 101 * PAGE_BYTES
    for start in range(0, large.size_bytes, piece):
        large.release(start, min(piece, large.size_bytes - start))
    assert large.resident_bytes() == 0


def test_nothing_is_read_ahead(large):
    large.populate(MIB, 3 * MIB)
    assert large.resident_bytes() == large.resident_bytes(MIB, 3 * MIB) == 3 * MIB
    # In order, as layers are: the kernel would take this for a sequential reader.
    for start in range(4 * MIB, 6 * MIB, MIB // 4):
        large.populate(start, MIB // 4)
    assert large.resident_bytes() == 5 * MIB
    # Touched without being asked for: this page and no other.
    bytes(large.view(16 * MIB, 1))
    assert large.resident_bytes() == 5 * MIB + PAGE_BYTES


def test_only_what_is_absent_is_read_at_the_pace(large):
    pace = Booked()
    large.populate(0, 5 * MIB // 2, pace)
    assert pace.pieces == [MIB, MIB, MIB // 2]
    large.populate(4 * MIB, MIB, pace)
    pace.pieces.clear()
    large.populate(MIB, 7 * MIB, pace)
    # Two holes: from 2.5 to 4 MiB, and from 5 to 8 MiB.
    assert pace.pieces == [MIB, MIB // 2, MIB, MIB, MIB]
    assert large.resident_bytes() == 8 * MIB
    pace.pieces.clear()
    large.populate(0, 8 * MIB, pace)
    assert pace.pieces == []


def test_pages_at_the_borders_of_a_range_count_whole(large):
    pace = Booked()
    large.populate(PAGE_BYTES - 1, 2, pace)
    assert pace.pieces == [2 * PAGE_BYTES]


def test_no_page_comes_faster_than_the_pace(large):
    pace = Pace(100e6)
    start = time.monotonic()
    large.populate(0, 4 * MIB, pace)
    large.release(0, 4 * MIB)
    large.populate(0, 4 * MIB, pace)
    assert time.monotonic() - start >= 8 * MIB / 100e6


def test_populating_reads_the_range_also_on_old_kernels(file, monkeypatch):
    path, _ = file
    monkeypatch.setattr(mapped_module, "_MADV_POPULATE_READ", 9999)  # an advice that no kernel knows
    with MappedFile(path) as mapped:
        mapped.populate(PAGE_BYTES + 1, 20 * PAGE_BYTES)
        assert mapped.resident_bytes(PAGE_BYTES, 21 * PAGE_BYTES) == 21 * PAGE_BYTES


def test_views_of_a_closed_mapped_file_stay_readable(file):
    path, content = file
    mapped = MappedFile(path)
    view = mapped.view(0, 50)
    mapped.close()
    mapped.close()
    gc.collect()
    assert bytes(view) == content[:50]


def test_files_that_cannot_be_mapped(tmp_path):
    (tmp_path / "empty").touch()
    for name in ("empty", "missing", "."):
        with pytest.raises(RegionError, match="cannot be mapped"):
            MappedFile(tmp_path / name)

"""Memory of the bridge: pages come when touched, leave when released."""

import subprocess
import sys

import numpy as np
import pytest

from edgesched.bridge.machine import memory
from edgesched.bridge.machine.memory import PAGE_BYTES, Region, RegionError

MIB = 1024**2


def fill(region, offset, n, value=1):
    np.frombuffer(region.view(offset, n), np.uint8)[:] = value


def own_resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE_BYTES


def test_pages_appear_when_touched_and_leave_when_released():
    with Region(64 * MIB) as region:
        assert region.size_bytes == 64 * MIB
        assert region.resident_bytes() == 0
        before = own_resident_bytes()
        fill(region, 8 * MIB, 16 * MIB)
        assert region.resident_bytes() == 16 * MIB
        assert region.resident_bytes(8 * MIB, 16 * MIB) == 16 * MIB
        assert own_resident_bytes() - before > 15 * MIB
        region.release(8 * MIB, 12 * MIB)
        assert region.resident_bytes() == 4 * MIB
        assert own_resident_bytes() - before < 5 * MIB
        assert bytes(region.view(8 * MIB, 4)) == bytes(4)
        assert bytes(region.view(20 * MIB, 4)) == b"\1\1\1\1"


def test_only_whole_pages_leave():
    with Region(10 * PAGE_BYTES) as region:
        fill(region, 0, 10 * PAGE_BYTES)
        region.release(1, 3 * PAGE_BYTES)
        assert region.resident_bytes() == 8 * PAGE_BYTES
        assert bytes(region.view(PAGE_BYTES - 1, 2)) == b"\1\0"
        region.release(5 * PAGE_BYTES, PAGE_BYTES - 1)
        region.release(5 * PAGE_BYTES + 7, 0)
        assert region.view(5 * PAGE_BYTES, 1)[0] == 1


def test_a_size_that_is_no_whole_page():
    with Region(PAGE_BYTES + 5) as region:
        assert len(region.view(0, PAGE_BYTES + 5)) == PAGE_BYTES + 5
        fill(region, 0, PAGE_BYTES + 5)
        assert region.resident_bytes() == 2 * PAGE_BYTES
        region.release(PAGE_BYTES, 5)
        assert region.resident_bytes() == PAGE_BYTES


def test_the_address_is_on_a_huge_page_border_and_stays():
    with Region(3 * MIB) as region:
        address = region.address
        assert address % memory.huge_page_bytes() == 0
        fill(region, 0, 3 * MIB)
        region.release(0, 3 * MIB)
        view = region.view(100, 8)
        assert region.address == address
        assert np.frombuffer(view, np.uint8).__array_interface__["data"][0] == address + 100


def test_huge_pages_round_nothing_up():
    huge = memory.huge_page_bytes()
    with Region(4 * huge) as region:
        if not region.advise_huge(huge // 2, 2 * huge):
            pytest.skip("this kernel has no transparent huge pages")
        assert region.advise_huge(100, huge) == 0
        fill(region, huge // 2, 1)
        fill(region, 2 * huge + huge // 2 - 1, 1)
        assert region.resident_bytes() == 2 * PAGE_BYTES
        fill(region, huge // 2, 2 * huge)
        assert region.resident_bytes() == 2 * huge
        region.release(huge // 2, 2 * huge)
        assert region.resident_bytes() == 0


def test_huge_page_size_of_the_kernel(tmp_path):
    file = tmp_path / "hpage_pmd_size"
    assert memory.huge_page_bytes(file) == 2 * MIB
    file.write_text("33554432\n")
    assert memory.huge_page_bytes(file) == 32 * MIB


@pytest.mark.parametrize(("offset", "n"), [(-1, 1), (0, 4097), (4096, 1), (0, -1)])
def test_ranges_outside_are_refused(offset, n):
    with Region(4096) as region:
        for call in (region.view, region.release, region.advise_huge, region.resident_bytes):
            with pytest.raises(RegionError, match=r"it has 0 to 4096"):
                call(offset, n)


@pytest.mark.parametrize("size", [0, -5])
def test_a_region_needs_a_size(size):
    with pytest.raises(RegionError, match=f"seen {size} bytes"):
        Region(size)


def test_closing_frees_the_memory_even_under_a_view():
    before = own_resident_bytes()
    region = Region(32 * MIB)
    fill(region, 0, 32 * MIB)
    array = np.frombuffer(region.view(0, 32 * MIB), np.uint8)
    region.close()
    region.close()
    assert own_resident_bytes() - before < 2 * MIB
    assert array[5] == 0
    with pytest.raises(RegionError, match="closed"):
        region.view(0, 1)


def test_leaving_by_an_exception_closes():
    with pytest.raises(KeyError), Region(4096) as region:
        raise KeyError
    with pytest.raises(RegionError, match="closed"):
        region.resident_bytes()


def test_what_malloc_frees_returns_to_the_kernel():
    # In a process of its own: thresholds are for the whole process.
    code = """if True:
        import ctypes
        from edgesched.bridge.machine import memory
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * memory.PAGE_BYTES
        def allocate(n, size):
            blocks = [libc.malloc(ctypes.c_size_t(size)) for _ in range(n)]
            for block in blocks:
                ctypes.memset(block, 1, size)
            return blocks
        def free(blocks):
            for block in blocks:
                libc.free(ctypes.c_void_p(block))
        print(memory.fix_malloc_thresholds())
        free(allocate(1, 16 << 20))  # without the fix, this raises the threshold to 16 MiB
        before = resident()
        blocks = allocate(16, 1 << 20)
        free(blocks[:-1])
        print(resident() - before)
        small = allocate(20000, 1000)
        free(small[:-1])
        held = resident()
        print(memory.return_free_memory())
        print(held - resident())
    """
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    fixed, kept, trimmed, returned = out.split()
    if fixed == "False":
        pytest.skip("this C library has no mallopt")
    assert int(kept) < 2 * MIB
    assert trimmed == "True"
    assert int(returned) > 15 * MIB

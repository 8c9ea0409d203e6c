"""Paged memory in the engine: a sleeping pager wakes up right, and less memory only slows down."""

from __future__ import annotations

from typing import Any

import pytest

from edgesched.devices import boards
from edgesched.policies import registry
from edgesched.sim.once import makespan_s, serve_once
from edgesched.sim.paged import PagedMemory
from edgesched.sim.validation.edgecaffe import limited

MIB = 1 << 20
NETWORKS = ["MemNet", "TinyYolo", "AgeNet"]


@pytest.mark.parametrize("limit_mib", [256, 512, 1024])
@pytest.mark.parametrize("policy", ["fifo", "linear", "deepeye", "partial", "masa"])
def test_a_pager_that_slept_says_what_one_that_did_not_says(
    policy: str, limit_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = limited(boards.load("raspberry-pi-4-4gb"), limit_mib * MIB)
    slept = serve_once(board, registry.make(policy), NETWORKS)
    original = PagedMemory.__init__

    def awake(self: PagedMemory, *arguments: Any) -> None:
        original(self, *arguments)
        self._wake()

    monkeypatch.setattr(PagedMemory, "__init__", awake)
    never = serve_once(board, registry.make(policy), NETWORKS)
    assert list(slept.records.job_finish_s) == list(never.records.job_finish_s)
    assert slept.paged_bytes == never.paged_bytes


def test_less_memory_is_slower_and_pages_more() -> None:
    board = boards.load("raspberry-pi-4-4gb")
    runs = [
        serve_once(limited(board, limit * MIB), registry.make("fifo"), ["SoS"])
        for limit in (2048, 768, 512, 256)
    ]
    times = [max(run.records.job_finish_s) for run in runs]
    paged = [run.paged_bytes[1] for run in runs]
    assert paged[0] == 0
    assert times == sorted(times)
    assert times[1] < times[-1]
    assert paged == sorted(paged)
    assert paged[1] > 0


def test_everything_is_released_in_the_end() -> None:
    board = limited(boards.load("edgecaffe-laptop"), 256 * MIB)
    for policy in ("fifo", "linear", "partial", "deepeye", "masa"):
        run = serve_once(board, registry.make(policy), ["AgeNet", "GenderNet"])
        assert run.scheduler.memory.resident_bytes == board.memory.base_bytes
        assert run._paged.pager.resident_bytes == 0  # type: ignore[attr-defined]


def test_what_fits_takes_the_time_it_takes_without_a_limit() -> None:
    board = boards.load("raspberry-pi-4-4gb")
    free = makespan_s(board, registry.make("linear"), ["AgeNet"])
    assert makespan_s(limited(board, 512 * MIB), registry.make("linear"), ["AgeNet"]) == free

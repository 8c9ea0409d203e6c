"""Residency, faults and the swap device of devices/paging.py."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesched.devices.access import (
    IM2COL,
    INPUT,
    OUTPUT,
    WEIGHTS,
    Program,
    bulk_load_program,
    fill_program,
    join_programs,
    layer_program,
)
from edgesched.devices.paging import Pager, SwapModel

MIB = 1 << 20
READ = Program(((1.0, ((0, 0.0, 1.0, False),)),))
WRITE = Program(((1.0, ((0, 0.0, 1.0, True),)),))
NOTHING = Program(((1.0, ()),))


def pager(limit_mib=None, read_mib=1.0, write_cost=0.5, base=0, **kw):
    limit = None if limit_mib is None else limit_mib * MIB
    model = {k: kw.pop(k) for k in ("queue_gain", "penalty") if k in kw}
    kw.setdefault("quantum_s", math.inf)
    kw.setdefault("request_bytes", math.inf)
    return Pager(limit, base, SwapModel(read_mib * MIB, write_cost, **model), **kw)


def run(p, work, program, blobs, now=0.0, worker=0, slowdown=1.0):
    at = p.begin(worker, work, program, blobs, now, slowdown)
    while (nxt := p.advance(worker, at, slowdown)) is not None:
        at = nxt
    return at


def test_no_limit_costs_only_the_work():
    p = Pager(None)
    p.allocate("w", 500 * MIB)
    assert run(p, 2.0, WRITE, ["w"]) == 2.0
    assert run(p, 2.0, READ, ["w"], 5.0, slowdown=1.5) == 8.0
    assert p.resident_bytes == 500 * MIB
    assert p.paged_in_bytes == p.paged_out_bytes == 0
    assert p.stall_s == {}


def test_a_small_stored_blob_is_read_and_a_small_new_one_is_not():
    p = pager(100, read_mib=1.0)
    p.allocate("file", 4096, stored=True)
    p.allocate("buffer", 4096)
    assert p.resident_bytes == 4096
    assert run(p, 1.0, READ, ["buffer"]) == 1.0
    assert run(p, 1.0, READ, ["file"], 1.0) == pytest.approx(2.0 + 4096 / MIB)
    assert (p.resident_bytes, p.paged_in_bytes) == (8192, 4096)
    assert run(p, 1.0, READ, ["file"], 3.0) == 4.0
    p.release("file")
    assert p.resident_bytes == 4096


def test_everything_fits_takes_one_call():
    p = pager(100, quantum_s=0.01, request_bytes=MIB)
    p.allocate("w", 60 * MIB)
    p.allocate("o", 40 * MIB)
    prog = layer_program("conv", depth=4000)
    blobs = [None] * 5
    blobs[WEIGHTS], blobs[OUTPUT] = "w", "o"
    assert p.begin(0, 3.0, prog, blobs, 1.0) == 4.0
    assert p.advance(0, 4.0) is None
    assert p.paged_out_bytes == 0


def test_hand_computed_eviction_and_reread():
    # 4 MiB room, a and b of 3 MiB: writing b throws out 2 chunks of a (written, half price).
    p = pager(4, read_mib=1.0)
    p.allocate("a", 3 * MIB)
    p.allocate("b", 3 * MIB)
    assert run(p, 1.0, WRITE, ["a"]) == 1.0
    assert run(p, 1.0, WRITE, ["b"]) == pytest.approx(1.0 + 2 * 0.5)
    assert p.paged_out_bytes == 2 * MIB
    assert p.resident_of("a") == MIB
    t = run(p, 0.0, READ, ["a"], 10.0)
    # FIFO: a0 in (a2 out), a1 in (b0 out), a2 in (b1 out): 3 read, 3 written
    assert p.paged_in_bytes == 3 * MIB
    assert p.paged_out_bytes == 5 * MIB
    assert t == pytest.approx(10.0 + 3 + 3 * 0.5)
    assert p.resident_bytes == 4 * MIB


def test_clean_chunk_leaves_without_a_write():
    p = pager(2)
    p.allocate("a", 2 * MIB)
    p.allocate("b", 2 * MIB)
    run(p, 0, WRITE, ["a"])
    run(p, 0, WRITE, ["b"], 100)  # a written out
    run(p, 0, READ, ["a"], 200)  # b written out
    out = p.paged_out_bytes
    assert out == 4 * MIB
    run(p, 0, READ, ["b"], 300)  # a is clean and has its copy
    assert p.paged_out_bytes == out
    run(p, 0, WRITE, ["a"], 400)  # b is clean too; a is dirty again
    assert p.paged_out_bytes == out
    run(p, 0, READ, ["b"], 500)
    assert p.paged_out_bytes == out + 2 * MIB


def test_fresh_memory_is_not_read():
    p = pager(2)
    for name in "abc":
        p.allocate(name, 2 * MIB)
        run(p, 0, WRITE, [name])
    assert p.paged_in_bytes == 0
    assert p.paged_out_bytes == 4 * MIB


def test_base_counts_against_the_limit():
    free, tight = pager(10), pager(10, base=4 * MIB)
    for p in (free, tight):
        p.allocate("a", 8 * MIB)
        run(p, 0, WRITE, ["a"])
    assert free.paged_out_bytes == 0
    assert tight.paged_out_bytes == 2 * MIB


def test_release_frees_room_and_drops_swap():
    p = pager(4)
    p.allocate("a", 4 * MIB)
    p.allocate("b", 4 * MIB)
    run(p, 0, WRITE, ["a"])
    run(p, 0, WRITE, ["b"])
    p.release("b")
    assert p.resident_bytes == 0
    assert not p.allocated("b")
    p.release("a")
    p.allocate("a", 4 * MIB)
    before = p.paged_in_bytes, p.paged_out_bytes
    run(p, 0, WRITE, ["a"])
    assert (p.paged_in_bytes, p.paged_out_bytes) == before


def two_stalled(gain=1.0):
    p = pager(2, queue_gain=gain)
    for name in "abcd":
        p.allocate(name, 2 * MIB)
    run(p, 0, WRITE, ["a"])
    run(p, 0, WRITE, ["b"], 10)
    run(p, 0, READ, ["a"], 20)
    return p


def test_device_serves_in_order_of_request():
    p = two_stalled()
    first = p.begin(0, 5.0, READ, ["b"], 100.0)  # 2 MiB in, nothing written (a is clean)
    assert first == pytest.approx(107.0)
    second = p.begin(1, 5.0, READ, ["a"], 101.0)  # waits until 102, then 2 s
    assert second == pytest.approx(109.0)
    assert p.stall_s[1] == pytest.approx(3.0)
    assert not p.computing(1, 103.0)
    assert p.computing(1, 104.5)
    assert p.advance(0, first) is None
    assert p.advance(1, second) is None


def test_queue_gain_speeds_the_waiting_request_only():
    p = two_stalled(gain=2.0)
    assert p.begin(0, 5.0, READ, ["b"], 100.0) == pytest.approx(107.0)
    assert p.begin(1, 5.0, READ, ["a"], 101.0) == pytest.approx(102.0 + 1.0 + 5.0)


def test_other_worker_computes_while_one_is_stalled():
    p = two_stalled()
    p.begin(0, 0.0, READ, ["b"], 100.0)
    assert p.begin(1, 1.0, NOTHING, [], 100.0) == 101.0


def test_penalty_scales_the_device_time():
    a, b = pager(2), pager(2, penalty=1.5)
    for p in (a, b):
        for name in "ab":
            p.allocate(name, 2 * MIB)
            run(p, 0, WRITE, [name])
    assert b.stall_s[0] == pytest.approx(1.5 * a.stall_s[0])


def test_rerate_stretches_what_is_left():
    p = Pager(None)
    assert p.begin(0, 10.0, NOTHING, [], 0.0) == 10.0
    assert p.rerate(0, 4.0, 2.0) == pytest.approx(16.0)
    assert p.rerate(0, 10.0, 1.0) == pytest.approx(13.0)


def test_slices_return_in_between():
    p = pager(8, read_mib=100, quantum_s=0.5, request_bytes=4 * MIB)
    p.allocate("a", 16 * MIB)
    at = p.begin(0, 16.0, WRITE, ["a"], 0.0)
    calls = 0
    while (nxt := p.advance(0, at)) is not None:
        at, calls = nxt, calls + 1
    assert calls >= 14
    assert at == pytest.approx(16.0 + 8 * 0.5 / 100)


def test_gemm_sweeps_output_once_per_block_of_k():
    prog = layer_program("conv", has_im2col=True, depth=1200, groups=2)
    sweeps = [acc for _, acc in prog.phases if any(a[0] == OUTPUT for a in acc)]
    assert len(sweeps) == 2 * 4
    assert sweeps[0] == ((WEIGHTS, 0.0, 0.125, False), (IM2COL, 0.0, 0.125, False), (OUTPUT, 0.0, 0.5, True))
    assert prog.phases[0][1][0] == (INPUT, 0.0, 1.0, False)
    assert sum(share for share, _ in prog.phases) == pytest.approx(1.0)


def test_sweeps_over_an_output_larger_than_memory_are_dear():
    def cost(depth):
        p = pager(8)
        for name, size in (("i", 1), ("o", 16)):
            p.allocate(name, size * MIB)
        return run(p, 0.0, layer_program("conv", depth=depth), ["i", None, None, None, "o"])

    assert cost(2000) > 4 * cost(300)


def test_load_makes_transient_copies():
    p = pager(100)
    for name in ("t0", "t1", "t2", "w"):
        p.allocate(name, 40 * MIB)
    run(p, 1.0, bulk_load_program(3, (1,)), ["t0", "t1", "t2", "w"])
    assert p.paged_out_bytes >= 60 * MIB
    q = pager(100)
    for name in ("t0", "w"):
        q.allocate(name, 40 * MIB)
    assert run(q, 1.0, bulk_load_program(1, (1,)), ["t0", "w"]) == 1.0


def test_bulk_load_and_joined_execution():
    weights = (10 * MIB, 0, 30 * MIB)
    prog = bulk_load_program(1, weights)
    assert sum(share for share, _ in prog.phases) == pytest.approx(1.0)
    p = pager(100)
    for name, size in (("t", 40 * MIB), ("w0", 10 * MIB), ("w2", 30 * MIB)):
        p.allocate(name, size)
    assert run(p, 2.0, prog, ["t", "w0", None, "w2"]) == pytest.approx(2.0)
    assert p.resident_bytes == 80 * MIB
    fc = layer_program("fc")
    joint = join_programs([(fc, 3.0, (0, 1, -1, -1, 2)), (fc, 1.0, (2, 3, -1, -1, 4))])
    assert joint.phases[0][0] == pytest.approx(0.75)
    assert {u[0] for u in joint.uses} == {0, 1, 2, 3, 4}
    assert len(fill_program(3).phases) == 3


def test_small_blobs_are_never_paged():
    p = pager(2)
    p.allocate("small", 1000)
    p.allocate("big", 8 * MIB)
    assert p.resident_bytes == 1000
    run(p, 0, WRITE, ["big"])
    assert p.resident_of("small") == 1000
    p.release("small")
    assert p.resident_bytes <= 2 * MIB


def test_coarse_chunks_agree_with_fine_ones():
    def total(max_chunks):
        p = pager(300, read_mib=50, max_chunks=max_chunks)
        for i in range(4):
            p.allocate(i, 120 * MIB)
        t = 0.0
        for _ in range(3):
            for i in range(4):
                t = run(p, 1.0, WRITE, [i], t)
        return t

    assert total(64) == pytest.approx(total(4096), rel=0.02)


@pytest.mark.parametrize(
    "kw",
    [
        {"read_bps": 0.0},
        {"read_bps": 1.0, "write_cost": -0.1},
        {"read_bps": 1.0, "queue_gain": 0.5},
        {"read_bps": 1.0, "penalty": 0.0},
        {"read_bps": math.inf},
    ],
)
def test_bad_swap_model(kw):
    with pytest.raises(ValueError):
        SwapModel(**kw)


def test_errors():
    with pytest.raises(ValueError, match="swap model"):
        Pager(100)
    with pytest.raises(ValueError, match="limit_bytes"):
        Pager(0, swap=SwapModel(1.0))
    p = pager(4)
    p.allocate("a", MIB)
    with pytest.raises(ValueError, match="already"):
        p.allocate("a", MIB)
    with pytest.raises(ValueError, match="negative"):
        p.allocate("b", -1)
    with pytest.raises(KeyError):
        p.begin(0, 1.0, READ, ["nobody"], 0.0)
    with pytest.raises(KeyError):
        p.advance(3, 0.0)
    p.begin(0, 1.0, READ, ["a"], 0.0)
    with pytest.raises(ValueError, match="task already"):
        p.begin(0, 1.0, READ, ["a"], 0.0)
    with pytest.raises(ValueError, match="bad access"):
        Program(((1.0, ((0, 0.5, 0.2, False),)),))
    with pytest.raises(ValueError):
        layer_program("conv", depth=0)


SIZES = st.lists(st.integers(1, 40 * MIB), min_size=1, max_size=6)
STEPS = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0, 1)), min_size=1, max_size=25)


def play(sizes, steps, limit_mib, **kw):
    p = pager(limit_mib, read_mib=10.0, **kw)
    for i, size in enumerate(sizes):
        p.allocate(i, size)
    t = 0.0
    for i, write, lo in steps:
        prog = Program(((1.0, ((0, min(lo, 0.5), 1.0, write),)),))
        t = run(p, 0.1, prog, [i % len(sizes)], t)
    return p, t


@settings(max_examples=80, deadline=None)
@given(SIZES, STEPS, st.integers(5, 120))
def test_conservation_and_determinism(sizes, steps, limit):
    p, t = play(sizes, steps, limit)
    assert p.resident_bytes == sum(p.resident_of(i) for i in range(len(sizes)))
    chunked = sum(p.resident_of(i) for i in range(len(sizes)) if sizes[i] >= 65536)
    assert chunked <= p.capacity
    assert t == pytest.approx(0.1 * len(steps) + sum(p.stall_s.values()))
    q, u = play(sizes, steps, limit)
    assert (t, p.paged_in_bytes, p.paged_out_bytes) == (u, q.paged_in_bytes, q.paged_out_bytes)
    for i in range(len(sizes)):
        p.release(i)
    assert p.resident_bytes == 0


@settings(max_examples=80, deadline=None)
@given(SIZES, STEPS, st.integers(5, 100))
def test_cutting_into_requests_does_not_change_a_lone_worker(sizes, steps, limit):
    whole, t = play(sizes, steps, limit)
    cut, u = play(sizes, steps, limit, quantum_s=0.01, request_bytes=MIB)
    assert whole.paged_in_bytes == cut.paged_in_bytes
    assert whole.paged_out_bytes == cut.paged_out_bytes
    assert t == pytest.approx(u)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 4), st.booleans(), st.integers(5, 100), st.integers(1, 60))
def test_cyclic_sweeps_are_monotone_in_the_limit(sizes, rounds, write, limit, more):
    # Cyclic access: here FIFO has no Belady anomaly (in general FIFO may have one).
    steps = [(i, write, 0.0) for _ in range(rounds) for i in range(len(sizes))]
    assert play(sizes, steps, limit + more)[1] <= play(sizes, steps, limit)[1] + 1e-9

"""Real time: threads drive the same scheduler, and a simulation with their durations does the same."""

from __future__ import annotations

import threading
import time
from array import array
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import Net

from edgesched.bridge.engine import RealTimeEngine
from edgesched.bridge.journal import NOTHING, WOKEN, Journal, JournalFull
from edgesched.devices.model import Device, Memory, Processor, Runtime
from edgesched.policies import registry
from edgesched.policies.contract import Policy
from edgesched.policies.graph import WHOLE_NETWORK
from edgesched.runs.records import Records
from edgesched.runs.tasks import Trace
from edgesched.sim.overheads import OverheadEngine
from edgesched.workloads.mix import together
from edgesched.workloads.workload import RequestPlan

RUNTIME = Runtime(weights_lifetime="layer", outputs_lifetime="arena", load_copies=False)
NETS = [
    Net("A", load_s=(0.002, 0.001, 0.003), execute_s=(0.002, 0.004, 0.001), init_s=0.0005, conv=2),
    Net("B", load_s=(0.001, 0.002), execute_s=(0.003, 0.001), init_s=0.0005, conv=1, weight_bytes=(50, 70)),
    Net("C", load_s=(0.004,), execute_s=(0.002,), init_s=0.0, conv=1),
]
POLICIES = ["fifo", "linear", "partial", "deepeye", "masa", "pipeline", "multi-bulk", "sjf"]


class Sleeping:
    """A backend that sleeps for as long as each task should take, and notes who asked for what."""

    def __init__(self, nets: list[Net]) -> None:
        self.nets = {net.name: net for net in nets}
        self.calls: dict[int, list[tuple[str, int]]] = defaultdict(list)
        self.count = 0
        self.lock = threading.Lock()

    def begin(self, network: str) -> SleepingJob:
        self.count += 1
        return SleepingJob(self, self.count, self.nets[network])


class SleepingJob:
    def __init__(self, backend: Sleeping, number: int, net: Net) -> None:
        self.backend, self.number, self.net = backend, number, net

    def note(self, what: str, layer: int = 0) -> None:
        with self.backend.lock:
            self.backend.calls[self.number].append((what, layer))

    def init(self) -> None:
        self.note("init")
        time.sleep(self.net.init_s)

    def load(self, layer: int) -> None:
        self.note("load", layer)
        time.sleep(sum(self.net.load_s) if layer == WHOLE_NETWORK else self.net.load_s[layer])

    def execute(self, layer: int) -> None:
        self.note("execute", layer)
        time.sleep(sum(self.net.execute_s) if layer == WHOLE_NETWORK else self.net.execute_s[layer])

    def free_weights(self, layer: int) -> None:
        self.note("free", layer)

    def close(self) -> None:
        self.note("close")


def device(limit_bytes: int = 1 << 40) -> Device:
    return Device(
        name="test",
        processors=(Processor(name="cpu"),),
        memory=Memory(total_bytes=limit_bytes),
        runtime=RUNTIME,
    )


def plan(gaps: list[float]) -> RequestPlan:
    made = RequestPlan(streams=("image",), deadline_s=[None], compositions=[together(("A", "B", "C"))])
    made.gap_s = array("d", gaps)
    made.stream = array("i", [0] * len(gaps))
    made.composition = array("i", [0] * len(gaps))
    return made


def in_real_time(policy: Policy, gaps: list[float], board: Device, backend: object) -> tuple:
    costs = [net.cost(RUNTIME) for net in NETS]
    journal = Journal.create(4, len(gaps), 30 * len(gaps))
    engine = RealTimeEngine(
        policy,
        board,
        plan(gaps),
        lambda s: [s.composition(costs)],
        journal,
        backend,  # type: ignore[arg-type]
        [[]] * 4,
    )
    engine.run()
    return engine, journal


@pytest.mark.parametrize("name", POLICIES)
def test_a_simulation_with_the_same_durations_does_the_same(name: str) -> None:
    gaps = [0.0, 0.01, 0.03, 0.0, 0.02]
    engine, journal = in_real_time(registry.make(name, {}), gaps, device(), Sleeping(NETS))
    rows = journal.finished_tasks()
    took = {(int(r["job"]), int(r["task"])): float(r["end_s"] - r["start_s"]) for r in rows}
    arrivals = journal.known_requests()["arrival_s"]
    actual = plan([float(gap) for gap in [arrivals[0], *(arrivals[1:] - arrivals[:-1])]])
    records, trace = Records(), Trace()
    simulated = OverheadEngine(
        registry.make(name, {}),
        device(),
        actual,
        lambda s: [s.composition([net.cost(RUNTIME) for net in NETS])],
        records,
        trace,
        measured=lambda job, task: took[job.row, task.index],
    )
    simulated.run()

    def order(starts, jobs, tasks, workers) -> list:
        return [(j, t) for _, _, j, t in sorted(zip(starts, workers, jobs, tasks, strict=True))]

    assert len(rows) == len(trace) == sum(len(g.tasks) for g in engine.compositions[0].graphs) * len(gaps)
    real = order(rows["start_s"].round(8), rows["job"], rows["task"], rows["worker"])
    assert real == order([round(s, 8) for s in trace.start_s], trace.job, trace.task, trace.worker)
    finish_s = [rows["end_s"][rows["job"] == job].max() for job in range(len(NETS) * len(gaps))]
    assert list(records.job_finish_s) == pytest.approx(finish_s, abs=1e-7)


@pytest.mark.parametrize("name", POLICIES)
def test_every_layer_is_loaded_before_it_is_executed_and_everything_is_closed_once(name: str) -> None:
    backend = Sleeping(NETS)
    engine, journal = in_real_time(registry.make(name, {}), [0.0, 0.005], device(), backend)
    assert backend.count == 6
    for calls in backend.calls.values():
        assert calls[0] == ("init", 0)
        assert calls[-1] == ("close", 0)
        assert [what for what, _ in calls].count("close") == 1
        for place, (what, layer) in enumerate(calls):
            if what == "execute":
                assert ("load", layer) in calls[:place]
            if what == "free":
                assert calls[place - 1] == ("execute", layer) or ("execute", layer) in calls[:place]
    memory = engine.scheduler.memory
    assert memory.resident_bytes == memory.base_bytes
    assert memory.active == 0
    starts, ends = journal.finished_tasks()["start_s"], journal.finished_tasks()["end_s"]
    assert (ends >= starts).all()


def test_workers_do_one_thing_at_a_time() -> None:
    _, journal = in_real_time(registry.make("masa", {}), [0.0] * 4, device(), Sleeping(NETS))
    rows = journal.finished_tasks()
    for worker in set(rows["worker"].tolist()):
        mine = rows[rows["worker"] == worker]
        assert (mine["start_s"][1:] >= mine["end_s"][:-1]).all()


def test_what_a_layer_raises_ends_the_run_and_keeps_what_was_measured() -> None:
    class Breaking(Sleeping):
        def begin(self, network: str) -> SleepingJob:
            job = super().begin(network)
            if self.count == 3:
                job.execute = lambda layer: 1 / 0  # type: ignore[method-assign]
            return job

    costs = [net.cost(RUNTIME) for net in NETS]
    journal = Journal.create(1, 2, 100)
    engine = RealTimeEngine(
        registry.make("linear", {}),
        device(),
        plan([0.0, 0.001]),
        lambda s: [s.composition(costs)],
        journal,
        Breaking(NETS),
        [[]],
    )
    with pytest.raises(ZeroDivisionError):
        engine.run()
    finished = sum(len(g.tasks) for g in engine.compositions[0].graphs[:2]) + 2
    assert len(journal.finished_tasks()) == finished
    assert [on.job for on in journal.under_way()] == [2]


def test_a_full_journal_says_so() -> None:
    journal = Journal.create(1, 1, 1)
    journal.arrived(0.0, 0.0, 0, 0)
    with pytest.raises(JournalFull):
        journal.arrived(0.0, 0.0, 0, 0)
    journal.went_on(0.0, 0.0, 5, 0.0, WOKEN, 0, 0, 0, 1)
    assert len(journal.finished_tasks()) == journal.finished() == 0
    assert journal.under_way() == [(0, 0, 0.0, 5)]
    journal.went_on(1.0, 0.1, 0, 0.5, 2, 0, NOTHING, NOTHING, 1)
    with pytest.raises(JournalFull):
        journal.went_on(2.0, 0.1, 5, 0.0, WOKEN, 0, 0, 0, 1)
    assert journal.finished_tasks()[0]["switches"] == 2
    assert journal.finished() == 1
    assert journal.under_way() == []
    journal.close()


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60), st.integers(0, 60))
def test_the_journal_tells_tasks_from_what_workers_went_on_to(
    steps: list[tuple[int, bool]], cut: int
) -> None:
    """Any interleaving of three workers that wake, go on and fall idle, read at any of its rows."""
    journal = Journal.create(3, 0, 30)
    on: dict[int, tuple[int, int, float, int]] = {}
    expected: list[tuple[int, ...]] = []
    then: tuple[list[tuple[int, ...]], list[tuple[int, int, float, int]]] = ([], [])
    for number, (worker, goes_on) in enumerate(steps):
        if worker in on:
            job, task, start_s, resident = on.pop(worker)
            expected.append((job, task, worker, start_s, number, resident, number % 7))
            switches = number % 7
        elif not goes_on:
            continue  # idle workers that stay idle write nothing
        else:
            switches = WOKEN
        job, task = (number, 2 * number) if goes_on else (NOTHING, NOTHING)
        journal.went_on(number, 0.0, 3 * number, 0.0, switches, 0, job, task, worker + 1)
        if goes_on:
            on[worker] = (job, task, float(number), 3 * number)
        if number <= cut:
            then = (expected.copy(), [on[w] for w in sorted(on)])
        if number == cut:
            assert journal.finished() == len(expected)
    names = ("job", "task", "worker", "start_s", "end_s", "resident_bytes", "switches")
    assert [tuple(row[name] for name in names) for row in journal.finished_tasks()] == expected
    assert journal.under_way() == [on[w] for w in sorted(on)]
    assert journal.finished() == len(expected)
    # Read as far as the writer had come when it was killed.
    later = journal.events["now_s"] > cut
    journal.events["worker"][later] = 0
    assert [tuple(row[name] for name in names) for row in journal.finished_tasks()] == then[0]
    assert journal.under_way() == then[1]
    journal.close()

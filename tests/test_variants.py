"""A policy may give a job that begins another graph: other seconds and bytes, the same tasks and edges."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from playing import Net, play

NET = Net(
    "a", load_s=(1.0, 1.0), execute_s=(2.0, 4.0), weight_bytes=(10, 20), output_bytes=4, workspace_bytes=100
)

SWITCHING = """
    from dataclasses import replace

    from edgesched.policies.contract import Policy, Worker
    from edgesched.policies.graph import linear


    class Switching(Policy):
        '''Every second job executes in half the time, with twice the workspace.'''

        def __init__(self):
            self.begun = 0
            self.fast = None

        def workers(self, device):
            return [Worker("w0"), Worker("w1")]

        def expand(self, network, device):
            graph = linear(network, device.runtime, serial=False)
            graph.reserve(graph.first, 50)
            self.runtime = device.runtime
            return graph

        def variant(self, job, ready, memory):
            self.begun += 1
            if self.begun % 2:
                return None
            if self.fast is None:
                cost = job.network
                self.fast = linear(
                    replace(
                        cost,
                        execute_s=tuple(s / 2 for s in cost.execute_s),
                        execute_start_bytes=tuple(b + 100 for b in cost.execute_start_bytes),
                        execute_end_bytes=tuple(b + 100 for b in cost.execute_end_bytes),
                    ),
                    self.runtime,
                    serial=False,
                )
                self.fast.reserve(0, 70)
            return self.fast
"""

CUT = """
    from edgesched.policies.contract import Policy
    from edgesched.policies.graph import bulk, linear


    class Cut(Policy):
        def expand(self, network, device):
            self.runtime = device.runtime
            return linear(network, device.runtime, serial=False)

        def variant(self, job, ready, memory):
            return bulk(job.network, self.runtime)
"""


def written(folder: Path, text: str) -> str:
    path = folder / "policy.py"
    path.write_text(textwrap.dedent(text))
    return str(path)


def test_a_job_runs_on_the_graph_it_was_given(tmp_path: Path) -> None:
    played = play(written(tmp_path, SWITCHING), [(0.0, [NET]), (0.0, [NET])])
    assert played.story(0) == "a I 0-1, a L0 1-2, a E0 2-4, a L1 4-5, a E1 5-9"
    assert played.story(1) == "a I 0-1, a L0 1-2, a E0 2-3, a L1 3-4, a E1 4-6"


def test_what_was_booked_is_what_is_given_back(tmp_path: Path) -> None:
    played = play(written(tmp_path, SWITCHING), [(0.0, [NET]), (0.0, [NET]), (100.0, [NET]), (0.0, [NET])])
    memory = played.engine.scheduler.memory
    assert (memory.resident_bytes, memory.reserved_bytes, memory.active) == (0, 0, 0)
    # both execute their last layer: all weights and outputs of two jobs, 100 bytes of workspace and 200
    assert memory.peak_bytes == 2 * 30 + 2 * 8 + 100 + 200


def test_a_graph_with_other_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"variant\(\) of a returned a graph of a with 3 tasks"):
        play(written(tmp_path, CUT), [(0.0, [NET])])

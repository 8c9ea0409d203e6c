"""Whether this machine is at rest: what else runs on it ends up in measurements."""

from __future__ import annotations

import os
import time
from pathlib import Path

WINDOW_S = 0.5
BUSY_SHARE = 0.1
"""Of one processor: more than that is not rest."""
_ROOT = Path("/")
# proc(5), /proc/stat: user nice system idle iowait irq softirq steal; what others do is all but the waiting.
_WAITING = (3, 4)
_FIELDS = 8


def unrest(root: Path = _ROOT) -> str | None:
    """What other processes do meanwhile, as one line to warn with; None where the machine is at rest.

    Looks for half a second. The load average is told, but does not decide: it still holds our own past.
    """
    before_s, own_s, start_s = _busy_s(root), time.process_time(), time.monotonic()
    time.sleep(WINDOW_S)
    busy_s = _busy_s(root) - before_s - (time.process_time() - own_s)
    share = busy_s / (time.monotonic() - start_s)
    if share <= BUSY_SHARE:
        return None
    load = (root / "proc/loadavg").read_text().split()[0]
    return (
        f"this machine is not at rest: other processes use {share:.0%} of a processor (load average {load}); "
        f"what they disturb is left out, but better stop them"
    )


def _busy_s(root: Path) -> float:
    ticks = [int(field) for field in (root / "proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    busy = sum(n for at, n in enumerate(ticks[:_FIELDS]) if at not in _WAITING)
    return busy / os.sysconf("SC_CLK_TCK")

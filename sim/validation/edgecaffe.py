"""EdgeCaffe's measured end-to-end times against the simulation, with the committed calibration, no refit."""

from __future__ import annotations

from ...devices import boards
from ...devices.boards import merged
from ...devices.model import Device
from ...policies import registry
from ...policies.contract import Policy
from ...traces.published import PublishedTotal
from ..once import makespan_s

POLICIES = {"bulk": "fifo", "linear": "linear", "partial": "partial", "deepeye": "deepeye"}
"""EdgeCaffe's mode and the policy that is it."""


class UnknownSetupError(ValueError):
    """A row was measured on a device or in a mode that the catalogue does not model."""


def board_of(total: PublishedTotal) -> str:
    """The board that models where the row was measured."""
    if total.device == "laptop":
        if total.kind == "run":
            return "edgecaffe-laptop"
        return f"edgecaffe-laptop-{total.build.lower()}"
    sizes = {"rpi-1": "1gb", "rpi-2": "2gb", "rpi-4": "4gb"}
    if total.device in sizes:
        return f"raspberry-pi-4-{sizes[total.device]}"
    raise UnknownSetupError(f"{total.id}: no board for device {total.device!r}")


def limited(device: Device, limit_bytes: int) -> Device:
    """The device under another memory limit."""
    return Device.model_validate(merged(device.model_dump(), {"memory": {"limit_bytes": limit_bytes}}))


def policy_of(total: PublishedTotal) -> Policy:
    """The policy that is the row's mode."""
    if total.policy not in POLICIES:
        raise UnknownSetupError(f"{total.id}: no policy for mode {total.policy!r}")
    return registry.make(POLICIES[total.policy])


def predict_s(total: PublishedTotal, device: Device | None = None) -> float:
    """The simulated value of one row, seconds; ``device`` None: the board of the catalogue."""
    board = boards.load(board_of(total)) if device is None else device
    board = limited(board, total.memory_limit_bytes)
    if total.kind == "solo-mean":
        return sum(
            weight * makespan_s(board, policy_of(total), [name])
            for name, weight in zip(total.networks, total.weights, strict=True)
        )
    return makespan_s(board, policy_of(total), total.networks)

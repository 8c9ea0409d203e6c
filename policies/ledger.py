"""The memory ledger: what is resident, what is reserved, how many networks are active."""

from __future__ import annotations


class Ledger:
    """Byte-exact account of a run's memory.

    ``resident_bytes`` is what lies in memory (base included), ``reserved_bytes`` what policies have booked
    for active networks; the two are independent, so a policy with a wrong estimate hurts as on the device.
    """

    __slots__ = ("active", "base_bytes", "limit_bytes", "peak_bytes", "reserved_bytes", "resident_bytes")

    def __init__(
        self, limit_bytes: int | None = None, base_bytes: int = 0, reserved_base_bytes: int = 0
    ) -> None:
        self.limit_bytes = limit_bytes
        self.base_bytes = base_bytes
        self.resident_bytes = base_bytes
        self.peak_bytes = base_bytes
        self.reserved_bytes = reserved_base_bytes
        self.active = 0
        """Networks whose first task was taken and that are not finished."""

    @property
    def free_bytes(self) -> float:
        """Limit minus resident bytes; may be negative on a device that pages; infinite without a limit."""
        return float("inf") if self.limit_bytes is None else self.limit_bytes - self.resident_bytes

    @property
    def unreserved_bytes(self) -> float:
        """Limit minus reservations; may be negative; infinite without a limit."""
        return float("inf") if self.limit_bytes is None else self.limit_bytes - self.reserved_bytes

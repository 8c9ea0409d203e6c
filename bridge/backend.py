"""What a replay needs of whoever really executes layers: one execution per job.

``program.py`` does it with onnxruntime; tests do it with what they want to see.
"""

from __future__ import annotations

from typing import Protocol


class Execution(Protocol):
    """One job's inference; tasks call it in the order that the policy decides.

    ``layer`` may be ``graph.WHOLE_NETWORK``: all layers in turn. Calls for different layers may come from
    different threads at the same time, as far as the job's task graph allows.
    """

    def init(self) -> None:
        """Take what the inference needs as long as it lasts, and the image."""

    def load(self, layer: int) -> None:
        """Read the layer's weights into memory."""

    def execute(self, layer: int) -> None:
        """Compute the layer."""

    def free_weights(self, layer: int) -> None:
        """Give the memory of the layer's weights back."""

    def close(self) -> None:
        """Give back all that is left. The execution is not used again."""


class Backend(Protocol):
    """Executes networks; everything that all jobs share was prepared before the run."""

    def begin(self, network: str) -> Execution:
        """A new execution of the network. Called between tasks: must be quick."""

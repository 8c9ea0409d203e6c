"""A policy of one's own: the shortest network goes first, layer by layer, whatever arrived before it."""

from edgesched.policies.contract import Policy
from edgesched.policies.graph import linear


class ShortestLayers(Policy):
    """Layer by layer on one worker; between two layers a shorter network may go first."""

    def expand(self, network, device):
        """One chain of INIT, LOAD and EXECUTE of every layer."""
        return linear(network, device.runtime, serial=False)

    def rank(self, job):
        """Smaller goes first: the expected seconds of the whole network."""
        return job.network.expected_s

"""Figures for papers and reports: response-time curves, distributions, memory over time, timelines,
time against memory.

Every function returns a ``matplotlib.figure.Figure`` of its own; nothing global is touched. ``save`` writes
it as PNG and PDF.
"""

from .curves import response_curves
from .distributions import response_cdfs
from .frontier import time_against_memory
from .memory import memory_over_time
from .style import save
from .timeline import timeline

__all__ = ["memory_over_time", "response_cdfs", "response_curves", "save", "time_against_memory", "timeline"]

"""Measure networks and the device itself, as a replay executes them."""

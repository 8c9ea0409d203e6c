"""Primitives of all other layers, one kind of operation a file."""

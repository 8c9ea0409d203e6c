"""Primitives of convolutions, one family a file."""

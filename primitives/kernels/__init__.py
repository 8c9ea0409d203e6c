"""Loops compiled by numba, one family a file; imported only when something runs."""

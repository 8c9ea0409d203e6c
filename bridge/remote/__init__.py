"""Replays on other machines: packages of data, over ssh or carried by hand."""

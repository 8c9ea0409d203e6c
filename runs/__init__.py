"""A run, whichever clock drives it: the scenario that goes in, the result that comes out."""

"""Does the simulator compute what it says? Checks against theory, one module per kind of check."""

"""Planning: which primitive for every layer, and how much memory for every network."""

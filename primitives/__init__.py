"""The primitives: several implementations of each layer, with their formulas, and the code that runs them."""

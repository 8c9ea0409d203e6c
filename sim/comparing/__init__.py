"""Hold a simulation against its replay: errors, and what explains them."""

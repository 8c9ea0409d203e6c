"""Many scenarios: run the grid, draw curves, say which policy to choose."""

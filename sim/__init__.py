"""Virtual time: the SimPy engine, scenarios, sweeps, results, plots."""

"""Who goes next: the policy contract, the scheduler that applies it, and one file per policy."""

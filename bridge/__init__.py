"""Real time: profile a device, replay a policy on it."""

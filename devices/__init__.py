"""What computes it: processors, memory, storage; calibration from traces; the catalogue of boards."""

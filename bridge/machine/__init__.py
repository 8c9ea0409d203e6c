"""This machine: its memory, storage, control groups, and what disturbs it."""

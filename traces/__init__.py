"""Real layer profiles: the data, its schema, reading and writing it."""

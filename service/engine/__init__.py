"""Many requests, one model: a bounded line, fair packing, one thread, and what if it dies."""

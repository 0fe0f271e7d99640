"""What requests and answers look like: one file, one dialect. Nothing here knows HTTP."""

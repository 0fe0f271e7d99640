"""The paths of the service: each takes a request apart, has it done, and writes the answer down."""

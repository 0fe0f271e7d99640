"""What every request passes on its way in: a record, a key, a body that is small enough."""

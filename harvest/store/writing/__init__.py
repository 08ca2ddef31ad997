"""Writes to the store from one thread, and keeps what was paid for in a file while the store cannot be written."""

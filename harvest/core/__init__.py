"""Holds what every room shares: errors, money, nouns, settings, cleaning of foreign text, and writing files whole.

Functions here take and return plain values. They read no store, ask no endpoint and import no other room. Import each
file by its name and not from here: some load pydantic, and `--help` must not wait for that.
"""

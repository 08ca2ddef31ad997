"""What every room shares: errors, money, the nouns, settings, text of others made safe, and writing files whole.

Plain values come in and go out; nothing here reads a store or asks an endpoint, and it imports no other room. Its files
are imported by name and not from here, because some load pydantic, and `--help` must not wait for that.
"""

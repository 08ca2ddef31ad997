"""The viewer: a local page to look through attempts, verdicts and costs with the keyboard, and to mark answers.

In come open stores and what the command does with a mark. Out go the page and its JSON: from a server on 127.0.0.1
(server.py), or as files that open without one (static_copy.py). The page itself stands in page/, in plain JavaScript
modules; it filters and sorts by itself, from one list of all attempts.
"""

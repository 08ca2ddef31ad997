"""Says how a run went: the report as JSON and as a page, and the story of one question. All of it is pure.

The figures and the story that the store gives come in. Values and lines of text go out; commands write or print them.
Its files are imported by name, because the story needs checks and filters and the report does not.
"""

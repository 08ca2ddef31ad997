"""Says how a run went: the report as JSON and as a page, the story of one question, and the viewer of all attempts.

All of it is pure but the viewer's server. Functions here take the figures and the story that the store gives, and
return values and lines of text, which commands write or print. Import each file by its name: the story needs checks and
filters, and the report does not.
"""

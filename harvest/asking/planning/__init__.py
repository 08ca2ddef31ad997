"""Says what a run asks: all is checked before the first request, then one question after the other is planned.

In come the settings of RUN.toml, and later what became of a question's attempts. Out come the run that may start, the
attempts that are still worth buying, and how much each kind of question is expected to bring.
"""

"""Says what a run asks. Everything is checked before the first request; then the questions are planned one by one.

In come the settings of RUN.toml, and later what became of a question's attempts. Out come the run that may start, the
attempts that are still worth buying, and how much each kind of question is expected to bring.
"""

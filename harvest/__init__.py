"""Asks reasoning teachers questions, and keeps the chains of thought whose answers hold up, with their money counted.

Questions, a teacher's address and a budget come in. Traces go out, as a dataset to train a student on, with a report.
"""

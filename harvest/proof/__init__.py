"""Says of each row that is trained where it comes from, in a file that a stranger can check without us: the manifest.

It takes what is known of each row, and the row as it is written. It writes a manifest beside a dataset or a student,
reads a manifest that anybody may have changed, and names each field that does not hold. Import each file by its name.
"""

"""Buys answers in batches: many requests in one file, answered within a day at the batch price.

In come the attempts that the plan wants. Out go the same attempts in the store, settled row by row and judged, as live
ones are. A batch is reserved whole before its file is uploaded, and its file's id is stored before the batch is
created. So after a crash at any moment, the batch is found again before anything is created.

    slices.py         which rows go together into one batch
    submission.py     uploads a slice and creates its batch, once
    results.py        fetches the results of a batch that has ended, and settles its rows
    refused_files.py  settles a batch whose file the endpoint refused
    buyer.py          all batches of one teacher
    collection.py     the questions of a run, in slices, until each has ended
"""

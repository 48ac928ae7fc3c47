"""Where rows come from that are no local file of delimited text, and how they become one.

Such a source is spooled first: written, in the job's own thread, as delimited text into a folder of
the user's data directory, and loaded from there like any other file. So it is paused and resumed
in the same way, and stays the same one while it is loaded. The folder goes with the job.
"""

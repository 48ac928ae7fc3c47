"""The metadata in the schema ``taskwidgets``: jobs, checkpoints, events, and who owns what.

It lives in the database that holds the data, so that a batch and its checkpoint are one
transaction. All SQL on these tables is here: tables in ``schema.py``, statements in
``jobs.py`` and ``checkpoints.py``, the change from release to release in ``migrations/``.
"""

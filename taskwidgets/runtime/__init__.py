"""What a job is: its states, its progress, how it runs and how it is stopped.

No SQL and no widgets: the store and the panel are reached through the small protocols in
``store.py`` and ``viewer.py``, so that this package works where neither is installed.
"""

"""A Dask cluster as what jobs send their work to."""

from taskwidgets.cluster.cluster import Cluster
from taskwidgets.cluster.scheduler import Scheduler, as_scheduler

__all__ = ["Cluster", "Scheduler", "as_scheduler"]

"""Whether two processes are on the same database."""

from taskwidgets import Workspace


def test_the_same_database_is_known_by_any_address(database_url, empty_url):
    """Two ways to one database give one fingerprint, another database gives another."""
    ways = [database_url, f"{database_url}&application_name=other", empty_url]
    workspaces = [Workspace(url) for url in ways]
    try:
        first, again, other = (workspace.fingerprint for workspace in workspaces)
    finally:
        for workspace in workspaces:
            workspace.close()
    assert first == again != other
    assert len(first) == 32

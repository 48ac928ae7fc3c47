"""What a job's panel shows of the cluster whose workers do its work."""

import re

import ipywidgets as widgets
import pytest
from fix_servers import wait_until

from taskwidgets.cluster import Facts
from taskwidgets.widgets import markup
from taskwidgets.widgets.panel import Panel


def shown(panel):
    """The HTML of all that is on the page."""
    return [
        one.value
        for one in panel.root.children
        if isinstance(one, widgets.HTML) and one.layout.display != "none"
    ]


def test_the_panel_of_a_job_on_a_cluster(cluster, workspace, many_rows):
    """Workers, what is in flight, each one's rate and a link, while the job runs; then no more."""
    job = workspace.upload(many_rows(20_000), "t", client=cluster.address, max_rate=5e5)
    panel = Panel(job)

    def line():
        panel.refresh()
        found = re.search(r'aria-label="Dask cluster">.*?</div>', "".join(shown(panel)))
        return re.sub("<[^>]*>", " ", found[0]) if found else ""

    wait_until(lambda: "per worker" in line(), "for the rates")
    assert re.search(r"2 workers\s+\d in flight\s+[\d.]+ kB( to [\d.]+ kB)?/s per worker", line())
    (link,) = [html for html in shown(panel) if "Dask's dashboard" in html]
    assert re.search(r'<a href="http://127.0.0.1:\d+/status" target="_blank"', link)
    parts = panel.root.children
    job.pause()
    wait_until(lambda: job.state == "paused")
    job.join(None)
    assert line() == ""
    assert not [html for html in shown(panel) if "dashboard" in html]
    assert panel.root.children == parts  # the page need not make anything anew
    job.max_rate = None
    job.resume()
    job.wait()
    assert line() == ""


def test_a_job_without_a_cluster_has_no_such_line(workspace, many_rows):
    """Nothing of a cluster, and no widget for it."""
    job = workspace.upload(many_rows(20_000), "t", max_rate=5e5)
    panel = Panel(job)
    many = len(panel.root.children)
    wait_until(lambda: job.progress.rows > 0)
    panel.refresh()
    assert "Dask" not in "".join(shown(panel))
    assert len(panel.root.children) == many
    job.terminate()
    wait_until(lambda: job.state == "terminated")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(2, 4, (12.5e6, 9e6), ""), "2 workers 4 in flight 9.0 MB to 12.5 MB/s per worker"),
        (Facts(1, 1, (3e3,), ""), "1 worker 1 in flight 3.0 kB/s per worker"),
        (Facts(1000, 64, (), ""), "1,000 workers 64 in flight"),
        (Facts(0, 2, (), ""), "no worker 2 in flight"),
    ],
)
def test_the_line(facts, expected):
    """Few words, in the numbers' usual form."""
    said = " ".join(re.sub("<[^>]*>", " ", markup.at_work(facts)).split())
    assert said == f"Dask cluster: {expected}"


def test_the_link_leads_to_pages_only():
    """What a scheduler says of its dashboard is escaped, and no script."""
    assert 'href="/user/a/proxy/8787/status"' in markup.dashboard_link("/user/a/proxy/8787/status")
    assert markup.dashboard_link("javascript:alert(1)") == ""
    assert markup.dashboard_link("") == ""
    assert "<script>" not in markup.dashboard_link('http://x/"><script>alert(1)</script>')

"""What libpq reads by itself: password files, service files, certificates; for each connection."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy
import trustme
from fix_databases import run_sql

from taskwidgets import Workspace
from taskwidgets.errors import DatabaseError, LoginRefused

PASSWORD = "hunter2xyz"
DROP = "DROP SCHEMA IF EXISTS taskwidgets CASCADE"


@pytest.fixture
def server(password_server):
    """One that asks for a password; all that a test makes there is dropped."""
    yield password_server
    url = password_server.url(password=PASSWORD)
    run_sql(url, f"{DROP}; DROP TABLE IF EXISTS t")


def write_secret(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)  # libpq ignores a file that others may read
    return path


def jobs_run(workspace: Workspace, csv_file, folder: Path) -> bool:
    """An upload, an export with two readers, and the rows of a query come and go."""
    path = csv_file("a", *map(str, range(2000)))
    done = workspace.upload(path, "t", if_exists="replace", again=True).wait(60)
    out = folder / "out.csv"
    for source in ("t", "SELECT a FROM t ORDER BY a"):
        job = workspace.download(source, out, if_exists="replace", workers=2, again=True)
        assert job.wait(60).rows_loaded == done.rows_loaded
    assert out.read_bytes() == path.read_bytes()
    rows = run_sql(
        workspace._database.login_url.set(drivername="postgresql").render_as_string(False),
        "SELECT j::text FROM taskwidgets.jobs j",
    )
    # Other tests keep jobs there, too.
    return len(rows) >= 3 and not any(PASSWORD in row for (row,) in rows)


@pytest.mark.parametrize("way", ["variable", "parameter"])
def test_a_password_file(server, csv_file, tmp_path, monkeypatch, way):
    """PGPASSFILE, or passfile in the URL: the file is read for each connection, by readers too."""
    file = write_secret(tmp_path / "pgpass", f"*:*:postgres:owner:{PASSWORD}\n")
    url = server.url()
    if way == "variable":
        monkeypatch.setenv("PGPASSFILE", str(file))
    else:
        monkeypatch.setenv("PGPASSFILE", "/dev/null")
        url += f"&passfile={file}"
    workspace = Workspace(url)
    assert workspace._database.url.password is None
    assert jobs_run(workspace, csv_file, tmp_path)
    write_secret(file, "*:*:postgres:owner:another\n")
    with pytest.raises(LoginRefused) as refused:
        workspace._database.connect()
    assert "another" not in str(refused.value)
    workspace.close()


@pytest.mark.parametrize("way", ["url", "engine"])
def test_a_service_file(server, csv_file, tmp_path, monkeypatch, way):
    """PGSERVICEFILE: the URL has only the service's name, and so have an engine's arguments."""
    lines = ["[shop]", f"host={server.socket}", "dbname=postgres", "user=owner"]
    file = write_secret(tmp_path / "services", "\n".join([*lines, f"password={PASSWORD}\n"]))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    if way == "url":
        workspace = Workspace("postgresql:///?service=shop")
    else:
        made = sqlalchemy.create_engine("postgresql+psycopg2://", connect_args={"service": "shop"})
        workspace = Workspace(made)
    assert "service=shop" in workspace.url
    assert 'service "shop"' in repr(workspace)
    assert PASSWORD not in workspace.url
    assert workspace._database.location == f"{server.socket}:5432/postgres"
    assert jobs_run(workspace, csv_file, tmp_path)
    workspace.close()


def test_a_service_that_does_not_exist(tmp_path, monkeypatch):
    """What is missing is named."""
    monkeypatch.setenv("PGSERVICEFILE", str(write_secret(tmp_path / "services", "[shop]\n")))
    with pytest.raises(DatabaseError, match='definition of service "stop" not found'):
        Workspace("postgresql:///?service=stop")


@pytest.mark.parametrize("way", ["url", "engine", "variable", "tunnel"])
def test_a_certificate_that_is_verified(server, tls_proxy, csv_file, tmp_path, monkeypatch, way):
    """sslmode=verify-full with an authority of one's own holds for all connections."""
    proxy = tls_proxy(server.socket)
    tls = {"sslmode": "verify-full", "sslrootcert": str(proxy.certificates)}
    if way == "url":
        workspace = Workspace(proxy.url(PASSWORD, **tls))
    elif way == "tunnel":  # the name is the server's, the address that of the tunnel's end
        tunnel = {"hostaddr": "127.0.0.1", **tls}
        workspace = Workspace(proxy.url(PASSWORD, host="db.internal", **tunnel))
        assert workspace._database.location == f"db.internal:{proxy.port}/postgres"
    elif way == "engine":
        url = proxy.url(PASSWORD).replace("postgresql:", "postgresql+psycopg2:")
        workspace = Workspace(sqlalchemy.create_engine(url, connect_args=tls))
    else:
        monkeypatch.setenv("PGSSLMODE", tls["sslmode"])
        monkeypatch.setenv("PGSSLROOTCERT", tls["sslrootcert"])
        workspace = Workspace(proxy.url(PASSWORD))
    before = proxy.encrypted
    assert jobs_run(workspace, csv_file, tmp_path)
    assert proxy.encrypted >= before + 4  # workers, readers, a snapshot
    workspace.close()


def test_a_certificate_that_is_not_the_server_s(server, tls_proxy, tmp_path):
    """Another host's name, and an authority that is not trusted, are refused with the reason."""
    proxy = tls_proxy(server.socket)
    tls = {"sslmode": "verify-full", "sslrootcert": proxy.certificates}
    with pytest.raises(
        DatabaseError, match=r'certificate for "localhost" .*does not match host name'
    ):
        Workspace(proxy.url(PASSWORD, host="127.0.0.1", **tls))
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with pytest.raises(DatabaseError, match="certificate verify failed"):
        Workspace(proxy.url(PASSWORD, **{**tls, "sslrootcert": other}))
    with pytest.raises(DatabaseError, match=r"root certificate file .* does not exist"):
        Workspace(proxy.url(PASSWORD, **{**tls, "sslrootcert": tmp_path / "none.pem"}))

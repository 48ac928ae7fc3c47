"""Functions and operators that others put into the search path are not called by our statements.

What our statements use is found in the server's log, while every verb is run once. For each name
the same, and what would fit better, is then put into the schema ``public``, which the search path
has before ``pg_catalog``. Each of these only writes a line into the server's log.
See https://wiki.postgresql.org/wiki/A_Guide_to_CVE-2018-1058:_Protect_Your_Search_Path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from fix_databases import new_database
from fix_poolers import Pooler
from fix_servers import plain, wait_until
from psycopg2 import sql

from taskwidgets import JobTerminated, Workspace, current
from taskwidgets import job as job_decorator
from taskwidgets.cli.checks import _database
from taskwidgets.embedded import EmbeddedServer
from taskwidgets.embedded.account import Account
from taskwidgets.errors import OptionError, SourceError
from taskwidgets.forms.download import DownloadForm
from taskwidgets.table_names import TableNames
from taskwidgets.transfers.pipe import PipeReader
from taskwidgets.transfers.psql import PsqlReader

# Of these, operators and functions are made that fit a call better than those of the server.
TYPES = (
    "int4", "int8", "oid", "text", "name", "bool", "jsonb", "regclass", "xid", "tid",
    "timestamptz", "float8", "numeric", "interval",
)  # fmt: skip
# What the grammar makes operators of.
BY_WORD = {"LIKE": "~~", "ILIKE": "~~*", "IN": "=", "BETWEEN": "<=", "DISTINCT": "=", "NULLIF": "="}
# Strings, quoted names and comments have no names of functions.
NO_CODE = re.compile(r"E?'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
NAME = re.compile(r"\b([a-z_][a-z_0-9]*)\s*\(", re.IGNORECASE)
OPERATOR = re.compile(r"(?<![-+*/<>=~!@#%^&|`?])([-+*/<>=~!@#%^&|`?]+)")

# One for each overload of the server's function, with the same arguments; and with each argument
# replaced by each other type. "any" and the types of the server's inside cannot be declared.
SHADOW_FUNCTIONS = """
DO $do$
DECLARE found record; kinds text; place int; kind text; wanted text[];
BEGIN
  FOR found IN
    SELECT p.proname, p.prorettype::regtype::text AS gives,
           ARRAY(SELECT t::regtype::text
                 FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n) ORDER BY n) AS takes
    FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (%(names)s)
      AND p.prokind IN ('f', 'a') AND NOT p.proretset AND p.provariadic = 0
  LOOP
    FOR place IN 0 .. coalesce(array_length(found.takes, 1), 0) LOOP
      FOREACH kind IN ARRAY CASE WHEN place = 0 THEN ARRAY[''] ELSE %(types)s END LOOP
        wanted := found.takes;
        IF place > 0 THEN wanted[place] := kind; END IF;
        BEGIN
          EXECUTE format(
            'CREATE FUNCTION public.%%I(%%s) RETURNS %%s LANGUAGE plpgsql AS '
            '$f$BEGIN RAISE LOG ''shadow of %%s''; RETURN NULL; END$f$',
            found.proname, array_to_string(wanted, ','), found.gives, found.proname);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
      END LOOP;
    END LOOP;
  END LOOP;
END $do$
"""
SHADOW_OPERATORS = """
DO $do$
DECLARE found record; given text;
BEGIN
  FOR found IN
    SELECT DISTINCT oprname AS name, l.k AS l, r.k AS r,
           (SELECT o.oprresult::regtype::text FROM pg_operator o WHERE o.oprname = p.oprname
            AND o.oprnamespace = 'pg_catalog'::regnamespace
            ORDER BY (o.oprleft = l.k::regtype)::int + (o.oprright = r.k::regtype)::int DESC
            LIMIT 1) AS gives
    FROM pg_operator p, unnest(%(types)s) AS l (k), unnest(%(types)s) AS r (k)
    WHERE p.oprnamespace = 'pg_catalog'::regnamespace AND p.oprname = ANY (%(names)s)
  LOOP
    given := 'shadow_' || md5(found.name || found.gives);
    BEGIN
      EXECUTE format(
        'CREATE FUNCTION public.%%I(%%s, %%s) RETURNS %%s LANGUAGE plpgsql AS '
        '$f$BEGIN RAISE LOG ''shadow of %%s''; RETURN NULL; END$f$',
        given, found.l, found.r, found.gives, found.name);
      EXECUTE format(
        'CREATE OPERATOR public.%%s (LEFTARG = %%s, RIGHTARG = %%s, FUNCTION = public.%%I)',
        found.name, found.l, found.r, given);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
END $do$
"""


class ServerLog:
    """What is sent to a server, and what it says, from now on."""

    def __init__(self, server: EmbeddedServer, url: str) -> None:
        self._url = url
        self._path = server.data_directory / self.ask("SELECT pg_current_logfile()")[0][0]
        self._begun = self._path.stat().st_size

    def ask(self, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run a statement with the server's own functions, whatever the database's path is."""
        with closing(
            psycopg2.connect(plain(self._url), options="-c search_path=pg_catalog")
        ) as own:
            own.autocommit = True
            with own.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []

    def text(self) -> str:
        """All of it; another server's database may have written some of that."""
        self.ask("SELECT 'end of the log'")
        wait_until(lambda: "end of the log" in self._read(), "for the log")
        return self._read()

    def _read(self) -> str:
        return self._path.read_bytes()[self._begun :].decode(errors="replace")


def names_in(log: str) -> tuple[set[str], set[str]]:
    """The names that could be functions, and the operators, in the statements of a log."""
    functions, operators = set(), set()
    for entry in re.split(r"^(?!\t)", log, flags=re.MULTILINE):
        told = re.match(r"\S+ \S+ \S+ \[\d+\] LOG:  statement: (.*)", entry, re.DOTALL)
        if told is None or "end of the log" in entry:
            continue
        code = NO_CODE.sub(" '' ", told[1])
        functions |= {name.lower() for name in NAME.findall(code)}
        operators |= set(OPERATOR.findall(code))
        operators |= {one for word, one in BY_WORD.items() if re.search(rf"\b{word}\b", code)}
    return functions, operators


def calls_in(log: str) -> Iterator[tuple[str, str]]:
    """The shadows that were called, and the statements that called them."""
    entries = re.split(r"^(?!\t)", log, flags=re.MULTILINE)
    for place, entry in enumerate(entries):
        if called := re.search(r"LOG:  shadow of (\S+)", entry):
            following = (one for one in entries[place:] if "STATEMENT:  " in one)
            yield called[1], " ".join(next(following, "").partition("STATEMENT:")[2].split())


def every_verb(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each verb, and what forms, completion and the doctor ask."""
    folder.mkdir()
    with closing(Workspace(url)) as workspace:
        uploads(workspace, folder)
        downloads(workspace, folder, monkeypatch)
        functions(workspace)
        looks(workspace, monkeypatch)
    stopped_and_resumed(url, folder)


def file(folder: Path, name: str, rows: int, *more: str) -> Path:
    path = folder / name
    lines = ["id,a,day", *(f"{n},=x{n},2024-01-{n % 28 + 1:02}" for n in range(rows)), *more]
    path.write_text("\n".join(lines) + "\n")
    return path


def uploads(workspace: Workspace, folder: Path) -> None:
    plain_file = file(folder, "plain.csv", 300)
    workspace.upload(plain_file, "t").wait()
    workspace.upload(plain_file, "t").wait()  # done before: the table is compared
    workspace.upload(plain_file, "t", if_exists="append", again=True).wait()
    workspace.upload(plain_file, "t", if_exists="append").wait()
    workspace.upload(plain_file, "t", if_exists="replace", again=True).wait()
    workspace.upload(plain_file, "taken", if_exists="append", types={"id": "small"}).wait()
    workspace.upload([plain_file, file(folder, "two.csv", 5)], "many", source_column=True).wait()
    workspace.upload(file(folder, "wide.csv", 40_000, "3000000000,00123,2024-01-01"), "wide").wait()
    bad = file(folder, "bad.csv", 50, "x,b,2024-01-01", "51,b,2024-02-30", "-5,b,2024-01-01")
    job = workspace.upload(bad, "r", on_error="reject", types={"id": "small", "day": "date"})
    assert job.wait().rows_rejected == 3
    mended = job.rejects()
    mended.loc[0, "raw"] = "60,b,2024-01-01"
    job.replay(mended)
    job.events()
    with pytest.raises(OptionError):
        workspace.upload(plain_file, "no", types={"id": "no_such_type"})


def downloads(workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.download("t", folder / "t.csv").wait()
    workspace.download("t", folder / "t.csv").wait()
    workspace.download("t", folder / "safe.csv.gz", escape_formulas=True, quote_all=True).wait()
    workspace.download("seen", folder / "seen.csv").wait()
    workspace.download("SELECT a, id FROM t", folder / "q.csv").wait()
    workspace.download("t", f"{folder}/parts/", format="csv").wait()
    workspace.download("SELECT a, id FROM t", f"{folder}/rows/", format="csv.gz").wait()
    with pytest.raises(SourceError):
        workspace.download("no_such_table", folder / "no.csv")
    for reader in (PipeReader, PsqlReader):  # then the next one is used
        with monkeypatch.context() as patch:
            patch.setattr(PipeReader, "serves", staticmethod(lambda _: False))
            if reader is PsqlReader:
                patch.setattr(PsqlReader, "serves", staticmethod(lambda _: False))
            workspace.download("t", folder / f"{reader.__name__}.csv").wait()


def functions(workspace: Workspace) -> None:
    @job_decorator
    def fill(run: Any, count: int) -> None:
        for number in run.track(range(count), save_every=2):
            with run.transaction() as connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO public.numbers VALUES (%s)", (number,))
                run.checkpoint({"next": number})

    fill.using(workspace)(4).wait()


def looks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    form = DownloadForm(workspace)
    form.counted(form.relations())
    form.choose("t")
    form.look()
    monkeypatch.setattr(current, "connected", lambda: workspace)
    monkeypatch.setattr("taskwidgets.table_names.PATIENCE", 20)
    assert "seen" in TableNames()()
    assert not [one for one in _database(plain(workspace.url)) if one.status == "fail"]
    for state in ("failed", "interrupted"):
        workspace.jobs(state, search="t").to_dataframe()
    assert workspace.fingerprint
    with workspace.engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT id FROM taken LIMIT 1").scalar() is not None


def stopped_and_resumed(url: str, folder: Path) -> None:
    big = file(folder, "big.csv", 60_000)
    with closing(Workspace(url)) as one, closing(Workspace(url)) as two:
        job = one.upload(big, "big", max_rate=3e5)
        wait_until(lambda: job.progress.rows > 0)
        two.resume(job.id, take_over=True, max_rate=3e5)
        taken = two.job(job.id)
        taken.pause()
        wait_until(lambda: taken.state == "paused")
        two.resume(job.id, max_rate=1e9).wait()
        gone = one.upload(big, "gone", max_rate=3e5)
        wait_until(lambda: gone.progress.rows > 0)
        two.job(gone.id).terminate()
        with pytest.raises(JobTerminated):
            gone.wait()
        export = one.download("big", folder / "big.csv.copy", max_rate=3e5)
        wait_until(lambda: export.progress.rows > 0)
        export.pause()
        wait_until(lambda: export.state == "paused")
    with closing(Workspace(url)) as three:  # the snapshot is lost: the table is proven unchanged
        three.resume(export.id, max_rate=1e9).wait()
        three.prune(older_than=timedelta(0))


@pytest.fixture
def prepared(embedded_server: EmbeddedServer, account: Account) -> Callable[..., Any]:
    """A database of the test's own, reached directly or through a pooler, and the server's log."""

    @contextmanager
    def prepare(way: str) -> Iterator[SimpleNamespace]:
        with new_database(embedded_server.url) as url:
            log = ServerLog(embedded_server, url)
            log.ask("CREATE DOMAIN public.small AS int4 CHECK (VALUE OPERATOR(pg_catalog.>=) 0)")
            log.ask("CREATE TABLE public.taken (id public.small, a text, day date)")
            log.ask("CREATE TABLE public.numbers (n int)")
            log.ask("CREATE VIEW public.seen AS SELECT id, a FROM public.taken")
            name = sql.Identifier(psycopg2.extensions.parse_dsn(plain(url))["dbname"])
            log.ask(sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(name))
            log.ask(sql.SQL("ALTER DATABASE {} SET search_path = public, pg_catalog").format(name))
            pooler = Pooler(plain(url), account) if way == "pooled" else None
            try:
                yield SimpleNamespace(log=log, url=pooler.url if pooler else url)
            finally:
                if pooler:
                    pooler.stop()

    return prepare


@pytest.mark.sample(1)
@pytest.mark.parametrize("way", ["direct", "pooled"])
def test_nothing_in_the_search_path_is_called(prepared, way, tmp_path, monkeypatch):
    """Every verb runs, with shadows of all that it uses before the server's own functions.

    Slow: each verb runs twice, and thousands of functions and operators are made.
    """
    with prepared(way) as first:
        every_verb(first.url, tmp_path / "first", monkeypatch)
        functions, operators = names_in(first.log.text())
    assert {"count", "pg_try_advisory_lock" if way == "direct" else "coalesce"} <= functions
    assert {"=", ">=", "<", "->>", "||", "~~"} <= operators
    with prepared(way) as second:
        for make, names in ((SHADOW_FUNCTIONS, functions), (SHADOW_OPERATORS, operators)):
            second.log.ask(make, {"names": sorted(names), "types": list(TYPES)})
        made = second.log.ask(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " UNION ALL"
            " SELECT count(*) FROM pg_operator WHERE oprnamespace = 'public'::regnamespace"
        )
        assert all(number > 500 for (number,) in made), made
        try:
            every_verb(second.url, tmp_path / "second", monkeypatch)
        finally:
            assert sorted(set(calls_in(second.log.text()))) == []

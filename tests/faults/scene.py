"""A victim held at a point of its work, what is done to it there, and the truth afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import victim
from fix_databases import Look, run_sql
from fix_exports import copied, hash_of
from fix_scripts import Script
from fix_servers import PrivateServer, wait_until

from taskwidgets import Job, Workspace
from taskwidgets.runtime.failpoints import VARIABLE
from taskwidgets.store.database import application_name

ROWS = victim.BATCHES * victim.BATCH
BEFORE = "before the rows"
ENDING = ("while terminating", "before the file is removed", "after the clean-up")


class Points:
    """The failpoints of the victims' processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arm(self, point: str) -> None:
        (self.folder / point).touch()

    def is_reached(self, point: str) -> bool:
        return (self.folder / f"{point}.reached").exists()

    def let_go(self, point: str) -> None:
        (self.folder / f"{point}.reached").unlink()

    def clear(self) -> None:
        """Disarm all points, and let everybody go."""
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # reached in this moment
                path.unlink()


class Zygote:
    """The process that forks victims: so the imports are paid for once."""

    def __init__(self, folder: Path) -> None:
        self.points = Points(folder)
        self.script = Script(
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "import victim; victim.main()",
            **{VARIABLE: str(folder)},
        )

    def fork(self, **order: Any) -> int:
        self.script.say(json.dumps(order))
        return int(self.script.line())


class Scene:
    """One job in a database and a folder of its own, run by a victim, seen by a second process.

    ``kind``: upload, download or own job, each over something older that is to stay until the
    end: a table that is replaced, one that rows are appended to, a file.
    """

    def __init__(
        self, kind: str, url: str, zygote: Zygote, source: Path, folder: Path, way: str | None
    ) -> None:
        self.kind = kind if kind == "own job" else kind.split()[0]
        self.mode = kind
        self.url = url
        self.zygote = zygote
        self.points = zygote.points
        self.source = source
        self.folder = folder
        self.way = way or url  # by which the victim goes to the server
        self.look = Look(url)
        self.workspace = Workspace(url)
        self.pid = 0
        self.stood = 0  # batches that were committed when the victim was first held
        self.job_id = 1  # the victim's; the first of its database
        self.target = folder / "out.csv"
        self.points.clear()
        self._prepare()

    def _prepare(self) -> None:
        if self.kind == "upload":
            self.look("CREATE TABLE t (id int, amount float8, day date, note text)")
            self.look("INSERT INTO t VALUES (-1, 0.5, '2013-01-01', 'old')")
            self.arguments = {
                "source": str(self.source),
                "table": "t",
                "if_exists": "append" if "append" in self.mode else "replace",
            }
        elif self.kind == "download":
            self.look(
                "CREATE TABLE t AS SELECT n AS id, md5(n::text) AS hash, repeat('ä', n % 60)"
                f" AS note FROM generate_series(1, {ROWS}) AS n"
            )
            is_new = "new" in self.mode
            if not is_new:
                self.target.write_text("old")
            self.arguments = {
                "source": "SELECT * FROM t" if "query" in self.mode else "t",
                "path": str(self.target),
                "if_exists": "fail" if is_new else "replace",
            }
        else:
            self.look("CREATE TABLE mine (n int, filling text)")
            self.arguments = {}

    # ------------------------------------------------------------------ the victim

    def start(self) -> None:
        self.pid = self.zygote.fork(url=self.way, kind=self.kind, arguments=self.arguments)

    def hold(self) -> None:
        """Start the victim, and hold it when a batch is committed, before the next."""
        self.points.arm(BEFORE)
        self.start()
        self.wait_for(BEFORE)
        self.points.arm(BEFORE)
        self.points.let_go(BEFORE)
        self.wait_for(BEFORE)
        wait_until(lambda: self.has_begun, "for the first checkpoint")
        self.stood = self.committed

    def hold_at(self, stage: str) -> None:
        """Start the victim, and hold it at this stage."""
        self.hold()
        if stage == BEFORE:
            return
        self.points.arm(stage)
        if stage in ("after the rows", "after the checkpoint"):
            self.points.arm(BEFORE)  # a download writes on while its checkpoint is made
        elif "pausing" in stage:
            self.ask("pause")
        elif stage in ENDING:
            self.ask("terminate")
        self.points.let_go(BEFORE)
        self.wait_for(stage)

    def ask(self, verb: str) -> None:
        """Have the victim itself pause or terminate its job."""
        made = self.points.folder / "ask.new"
        made.write_text(verb)
        made.rename(self.points.folder / "ask")
        if verb == "pause" and self.kind != "own job":
            # Committed before the batch in flight goes on.
            wait_until(lambda: self.state == "pausing", "for the pause to be heard")
        else:
            wait_until(lambda: not (self.points.folder / "ask").exists())

    def wait_for(self, point: str) -> None:
        wait_until(lambda: self.points.is_reached(point) or self._complain(), f"for {point!r}")

    def _complain(self) -> bool:
        complaint = self.points.folder / "complaint"
        assert not complaint.exists(), complaint.read_text()
        outcome = self.points.folder / "outcome"
        assert not outcome.exists(), f"the victim came to its end: {outcome.read_text()}"
        return False

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    @property
    def is_gone(self) -> bool:
        return not psutil.pid_exists(self.pid)

    def outcome(self) -> dict[str, Any]:
        """Let the victim go on to the end; how its job then is, by its own account."""
        for path in self.points.folder.iterdir():
            if path.name not in ("ask", "outcome", "outcome.new", "complaint"):
                path.unlink(missing_ok=True)
        wait_until(lambda: self.is_gone, "for the victim's end")
        complaint = self.points.folder / "complaint"
        assert not complaint.exists(), complaint.read_text()
        told: dict[str, Any] = json.loads((self.points.folder / "outcome").read_text())
        return told

    def end(self) -> None:
        if self.pid and not self.is_gone:
            self.signal(signal.SIGKILL)
            wait_until(lambda: self.is_gone)
        self.workspace.close()

    def sessions(self) -> list[int]:
        """The server's processes for the victim."""
        return [
            pid
            for (pid,) in self.look(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'taskwidgets%%' AND application_name <> %s",
                (application_name(self.workspace._database.session),),
            )
        ]

    # ------------------------------------------------------------------ what others see

    @property
    def state(self) -> str:
        """The job's state, as a second process sees it."""
        return str(self.workspace._store.record(self.job_id).state)

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint of a batch; a download may make one of the header alone."""
        if self.kind == "download":
            return bool(self.look.one("SELECT max(to_block) > 0 FROM taskwidgets.checkpoints"))
        return self.committed > 0

    @property
    def committed(self) -> int:
        """The batches that the ledger has."""
        if self.kind == "own job":
            states = self.look("SELECT state ->> 'next' FROM taskwidgets.run_states")
            return int(states[0][0]) if states else 0
        return self.look.ledger(1)[0]

    def resume(self) -> Job:
        return self.workspace.resume(self.job_id)

    def call(self) -> Job:
        """Run the cell again, in the second process."""
        job = victim.begin(self.workspace, self.kind, self.arguments)
        self.job_id = job.id
        return job

    def check_ledger(self) -> None:
        """What is committed of rows is what the ledger says, no more and no less."""
        if self.kind == "upload":
            rows = self.look.one(f"SELECT count(*) FROM taskwidgets.{self.look.staging()[0]}")
            assert rows == self.look.ledger(1)[1]
        elif self.kind == "own job":
            assert self.numbers() == list(range(self.committed * victim.BATCH))
        else:
            files = [*self.folder.glob(".*.partial"), self.target]
            partial = files[0]
            written = self.look.one(
                "SELECT coalesce(sum(to_byte - from_byte), 0)::int FROM taskwidgets.checkpoints"
            )
            assert copied(self.url, "SELECT * FROM t").startswith(partial.read_bytes()[:written])
            assert partial.stat().st_size >= written

    def numbers(self) -> list[int]:
        return [n for (n,) in self.look("SELECT n FROM mine ORDER BY n")]

    def check_before(self, stage: str = "") -> None:
        """Nobody sees anything of the job: what was there before is as it was.

        A file gets its name before the job is recorded as completed.
        """
        if self.kind == "download" and stage == "at the final switch":
            assert self.target.read_bytes() == copied(self.url, "SELECT * FROM t")
        elif self.kind == "upload":
            assert self.look("SELECT id, note FROM t") == [(-1, "old")]
        elif self.kind == "download" and "new" not in self.mode:
            assert self.target.read_text() == "old"

    def check_undone(self) -> None:
        """The job is terminated, and all is as it was before it."""
        assert self.state == "terminated"
        self.check_before()
        self.check_tidy()
        if self.kind == "own job":
            assert self.numbers() == []
        elif "new" in self.mode:
            assert not self.target.exists()
        assert self.look.ledger(1) == (0, 0)
        assert self.look("SELECT * FROM taskwidgets.run_states") == []

    def check_tidy(self) -> None:
        assert self.look.staging() == []
        assert {path.name for path in self.folder.iterdir()} <= {"out.csv"}

    def check_whole(self) -> None:
        """The job is completed, with each row once, and its receipt says so."""
        assert self.state == "completed"
        self.check_tidy()
        receipt = self.workspace._store.record(self.job_id).receipt
        assert receipt is not None
        if self.kind == "own job":
            assert self.numbers() == list(range(ROWS))
            assert receipt.rows_loaded == victim.BATCHES
            return
        assert receipt.rows_read == receipt.rows_loaded == ROWS
        if self.kind == "download":
            assert self.target.read_bytes() == copied(self.url, "SELECT * FROM t")
            assert receipt.sha256 == hash_of(self.target)
            return
        assert receipt.sha256 == hash_of(self.source)
        self.look("DROP TABLE IF EXISTS truth")
        self.look.copy(self.source, "truth", "t")
        if "append" in self.mode:
            self.look("INSERT INTO truth VALUES (-1, 0.5, '2013-01-01', 'old')")
        assert self.look.contents("t") == self.look.contents("truth")


class Ballast:
    """A disk that can be filled: it has folders for files, and a tablespace of the server."""

    SIZE = 64 << 20  # bytes

    def __init__(self, server: PrivateServer) -> None:
        self.root = server.base / "disk"
        self.root.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "tmpfs", str(self.root)]
        done = subprocess.run(mounting, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (
            "to fill a disk, these tests mount one: run them as root, or by "
            f"'unshare --mount --map-current-user --keep-caps make test' ({done.stderr.strip()})"
        )
        self.server = server
        self.tablespace = "small"
        self.root.chmod(0o755)
        place = self.root / "tablespace"
        place.mkdir(mode=0o700)
        if server.account.lent:
            os.chown(place, server.account.uid, server.account.gid)
        run_sql(server.url(), f"CREATE TABLESPACE {self.tablespace} LOCATION '{place}'")
        self._number = 0

    @property
    def _weight(self) -> Path:
        return self.root / "ballast"

    def new_folder(self) -> None:
        self._number += 1
        self.folder = self.root / f"target{self._number}"
        self.folder.mkdir()

    def fill(self) -> None:
        with self._weight.open("wb", buffering=0) as file, suppress(OSError):
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def make_room(self) -> None:
        self._weight.unlink(missing_ok=True)

    def remove(self) -> None:
        run_sql(self.server.url(), f"DROP TABLESPACE {self.tablespace}")
        subprocess.run(["umount", "-l", str(self.root)], capture_output=True, check=True)

"""The server process (postmaster): is one there, is it ours; start it, stop it.

A pid file proves nothing: after a SIGKILL or a reboot it stays, and its number may belong to
anybody by now. So a process counts as ours only if its command line says that it is a postgres on
our data directory. pg_ctl, which signals whatever the file names, is called only after that.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.embedded.account import Account
from taskwidgets.embedded.binaries import Binaries
from taskwidgets.embedded.directory import Directory

__all__ = ["PidFile", "Postmaster"]

START_PATIENCE = 60  # seconds that pg_ctl waits; a longer recovery goes on without it
STOP_PATIENCE = 2.0  # seconds for the server to take note of a stop; it takes milliseconds
LAST_LINES = 12  # of a log, in an error


@dataclass(frozen=True)
class PidFile:
    """What postmaster.pid says (src/include/utils/pidfile.h); it grows while the server starts."""

    pid: int
    socket_directory: Path | None
    status: str  # "", "starting", "ready", "stopping"


@dataclass(frozen=True)
class Postmaster:
    """The server of one data directory."""

    directory: Directory
    account: Account
    binaries: Binaries

    @property
    def pid_path(self) -> Path:
        return self.directory.data / "postmaster.pid"

    @property
    def start_log(self) -> Path:
        """What the server says before its own log is open; of the last start only."""
        return self.directory.log / "start.log"

    def pid_file(self) -> PidFile | None:
        """Return what the pid file says; None if there is none, or none that can be read."""
        try:
            lines = self.pid_path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        except FileNotFoundError:
            return None
        try:
            pid = int(lines[0])
        except ValueError:
            return None
        lines += [""] * 8
        return PidFile(pid, Path(lines[4]) if lines[4] else None, lines[7].strip())

    def running(self) -> PidFile | None:
        """Return the pid file of the running server, be it starting or stopping; None if none runs.

        The pid in it has been verified to be a postgres on our data directory.
        """
        found = self.pid_file()
        return found if found is not None and self._is_ours(found.pid) else None

    def start(self) -> str | None:
        """Start the server, wait until it is ready; return None, or its last words if it failed.

        pg_ctl puts it into a session of its own, with its output in a file: it survives the
        kernel, and holds none of the kernel's pipes.
        """
        self.start_log.unlink(missing_ok=True)
        outcome = self.account.run(
            [
                self.binaries.pg_ctl,
                "start",
                "-D",
                self.directory.data,
                "-l",
                self.start_log,
                "-w",
                "-t",
                str(START_PATIENCE),
            ],
            self.directory.home,
        )
        if outcome.status == 0:
            return None
        return f"{outcome.output}\n{_last_lines(self.start_log)}"

    def stop(self) -> None:
        """Tell the server to stop, and return when it has taken note (not when it has stopped).

        Fast mode: open transactions are rolled back, clients disconnected, then the checkpoint.
        After this nobody can connect any more, which whoever joins next must be able to rely on.
        """
        before = self.running()
        if before is None:
            return
        # Its failure is no matter: the server then has ended by itself, or the next one finds it.
        self.account.run(
            [self.binaries.pg_ctl, "stop", "-D", self.directory.data, "-m", "fast", "-W"],
            self.directory.home,
        )
        self.wait_for_stop(before)

    def wait_for_stop(self, before: PidFile) -> None:
        """Return when the server has taken note that it is to stop, or after STOP_PATIENCE."""
        deadline = time.monotonic() + STOP_PATIENCE
        while time.monotonic() < deadline:
            now = self.pid_file()
            if now is None or now.pid != before.pid or now.status == "stopping":
                return
            time.sleep(0.002)

    def remove_remains(self, socket: Path) -> None:
        """Remove what would keep a start from succeeding. Under the start lock, if none runs.

        The socket's lock file names a pid, and the start fails if that is in use again. So it
        does at a pid file with no pid in it, which a full disk or a power cut leaves. A pid file
        with a pid is Postgres's own affair, which looks for that process's remains first.
        """
        if self.pid_file() is None:
            self.pid_path.unlink(missing_ok=True)
        socket.unlink(missing_ok=True)
        socket.with_name(f"{socket.name}.lock").unlink(missing_ok=True)

    def last_log_lines(self) -> str:
        """Return the end of the server's own log, under its path; empty if there is none yet."""
        newest = max(
            self.directory.log.glob("postgres-*.log"),
            key=lambda path: path.stat().st_mtime,
            default=None,
        )
        return "" if newest is None else f"{newest}:\n{_last_lines(newest)}"

    def _is_ours(self, pid: int) -> bool:
        """Say whether the process is a postgres that was started on our data directory."""
        command = f"{_command_line(pid)} "
        if "postgres" not in command.partition(" -D ")[0]:
            return False
        if f"/postgres -D {self.directory.data} " in command:
            return True
        try:  # started by hand, with the path written in another way: its cwd is the data directory
            return Path(f"/proc/{pid}/cwd").samefile(self.directory.data)
        except OSError:
            return False


def _last_lines(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-LAST_LINES:])


def _command_line(pid: int) -> str:
    """Return the process's command line; empty if there is no such process, or it is a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return raw.replace(b"\0", b" ").decode("utf-8", "surrogateescape").rstrip()
    done = subprocess.run(  # macOS
        ["ps", "-ww", "-o", "command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    return done.stdout.rstrip()

"""A file at a URL, through fsspec: fetched into the spool, and from there on a local file.

What is fetched stays when the job pauses or its process is killed. It goes on from there where the
server gives parts of files and says, by ETag or time of modification, that it is the same one;
else it begins anew.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from taskwidgets.engine.url_identity import url_identity
from taskwidgets.errors import OptionError, SourceError
from taskwidgets.runtime.control import Wish
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.threads import start_thread
from taskwidgets.transfers.origins.extras import check_extra, extra
from taskwidgets.transfers.origins.masks import Secrets, masked_url
from taskwidgets.transfers.origins.origin import Given, Origin
from taskwidgets.transfers.origins.spool import Spool, check_wish, new_spool

__all__ = ["REMOTE", "Address", "Remote", "given_url", "is_url", "look_soon"]

REMOTE = "remote"
BLOCK_BYTES = 1 << 20
LARGEST_SPAN, SPAN = 1 << 20, 1 << 16  # bytes to ask for at once where connections break
TRIES = 6  # in a row that bring nothing
PATIENCE = (0.25, 0.5, 1.0, 2.0, 4.0)  # seconds before each further one
LOOK_PATIENCE = 5.0  # seconds for the server to say what the file is, in a call
T = TypeVar("T")

# By protocol, the packages that it needs besides fsspec.
PACKAGES = {
    "http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs",
    "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
}  # fmt: skip
# What file systems call that by which one knows a file again.
TAGS = (
    "ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime", "updated",
    "generation", "created", "Content-MD5", "md5Hash", "content_md5", "VersionId",
)  # fmt: skip


@dataclass(frozen=True)
class Address:
    """Where a remote file is, with its secrets: never stored, never shown."""

    url: str
    options: Mapping[str, object]


def is_url(source: object) -> bool:
    """Whether it is a URL: a protocol, ``://``, and the rest."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def given_url(url: str, options: Mapping[str, object] | None) -> Given:
    """The URL as a call's source. SourceError where a package is missing that it needs."""
    if options is not None and not isinstance(options, Mapping):
        raise OptionError("storage_options must be a dictionary, as fsspec takes it")
    protocol = url.partition("://")[0].lower()
    shown = masked_url(url)
    for package in ("fsspec", PACKAGES.get(protocol)):
        if package is not None:
            check_extra(package, f"{shown} is read through fsspec")
    known = extra("fsspec", f"{shown} is read through fsspec").available_protocols()
    if protocol not in known:
        raise OptionError(f"{shown}: fsspec knows no protocol {protocol!r}")
    address = Address(url, dict(options or {}))
    secret = bool(Secrets(url, address.options)) or bool(address.options)
    name = unquote(posixpath.basename(urlsplit(shown).path)) or urlsplit(shown).netloc
    return Given(
        identity=shown,
        origin=Origin(
            REMOTE, shown, new_spool(), facts={"name": name, "url": shown, "secret": secret}
        ),
        short=name,
        material=address if secret else None,
        secret_identity=url_identity(url, address.options),
    )


def look_soon(remote: Remote) -> dict[str, str] | None:
    """What the server says of the file; None where it takes too long. Raises SourceError."""
    answer: list[dict[str, str]] = []
    faults: list[SourceError] = []

    def ask() -> None:
        try:
            answer.append(remote.look())
        except SourceError as fault:
            faults.append(fault)

    start_thread(ask, name="source").join(LOOK_PATIENCE)
    if faults:
        raise faults[0]
    return answer[0] if answer else None


class Remote:
    """A remote file: what the server says of it, and its bytes."""

    def __init__(self, address: Address) -> None:
        self._secrets = Secrets(address.url, address.options)
        self._shown = masked_url(address.url)
        self._address = address
        self._span: int | None = None  # bytes that are asked for at once over HTTP; None: the rest
        self._made: tuple[Any, Any] | None = None
        self._is_http = address.url.lower().startswith(("http://", "https://"))

    def look(self) -> dict[str, str]:
        """What tells it from another file: size, ETag, time. Raises SourceError."""
        return self._told(self._look)

    def look_while(self, run: Run) -> dict[str, str]:
        """As `look`, for a job that may be stopped meanwhile."""
        return self._wait(run, self._look)

    def fetch(self, run: Run, spool: Spool) -> Path:
        """Have it in the spool, whole; Stopped after a wish, and then the part stays."""
        spool.make()
        failed = 0
        while True:
            before = self._size(spool)
            try:
                return self._fetch(run, spool)
            except _Away as away:
                failed = 0 if self._size(spool) > before else failed + 1
                if failed:  # what comes in before a connection breaks is lost with it: ask for less
                    self._span = LARGEST_SPAN if self._span is None else max(self._span // 4, SPAN)
                if failed >= TRIES:
                    raise SourceError(
                        f"{self._shown} cannot be read: {away}. Run the cell again: the job goes "
                        f"on from byte {self._size(spool):,} where the server allows it"
                    ) from None
                run.say(f"{self._shown}: {away}; trying again")
                run.control.wait_until(
                    lambda: run.control.wish is not Wish.NONE,
                    PATIENCE[min(failed, len(PATIENCE) - 1)],
                )
            check_wish(run)

    # ------------------------------------------------------------------ inside

    def _fetch(self, run: Run, spool: Spool) -> Path:
        part = spool.download.with_name("download.part")
        known = spool.download.with_name("download.json")
        found = self._wait(run, self._look)
        with spool.translated():
            stored = json.loads(known.read_text()) if known.exists() else None
            at = part.stat().st_size if part.exists() else 0
            if at and (stored != found or len(found) < 2):  # a size alone tells nothing
                why = "it has changed" if stored != found else "nothing tells it from another"
                run.note("source", f"{self._shown} is fetched from its beginning: {why}")
                at = 0
            known.write_text(json.dumps(found))
        size = int(found["size"]) if "size" in found else None
        run.say(f"fetching {self._shown}")
        run.meter.set(done=at, rows=0, total=size)
        while not (at and at == size):
            file, begins = self._wait(run, lambda at=at: self._opened(at, found))  # type: ignore[misc]
            try:
                if begins != at:
                    run.note("source", f"{self._shown} is fetched anew: the server gives no parts")
                    run.meter.set(done=0, rows=0, total=size)
                self._write(run, spool, part, file, begins)
            finally:
                with suppress(Exception):
                    file.close()
            with spool.translated():
                at = part.stat().st_size
            if size is None or at >= size:
                break
            if self._span is None or at == begins:
                raise _Away(f"the connection ended after {at:,} of {size:,} bytes")
        after = self._wait(run, self._look)
        if after != found:
            part.unlink()
            raise _Away("it was changed while it was fetched")
        with spool.translated():
            part.replace(spool.download)
        run.say("")
        return spool.download

    def _write(self, run: Run, spool: Spool, part: Path, file: Any, begins: int) -> None:
        with spool.translated():
            if begins == 0:
                # A new file, not an emptied one: whoever was frozen, and wakes up when the job is
                # taken over, writes on into the old one. Where it goes on, both write the same.
                part.unlink(missing_ok=True)
            target = spool.open(part, "ab")
        try:
            while True:
                check_wish(run)
                block = self._wait(run, lambda: file.read(BLOCK_BYTES))
                if not block:
                    break
                with spool.translated():
                    target.write(block)
                    target.flush()
                run.meter.add(len(block))
                run.control.pay(len(block))
                reach("while fetching")
            with spool.translated():
                target.finish()
        finally:
            target.close()

    def _look(self) -> dict[str, str]:
        system, path = self._system()
        info = system.info(path)
        found = {name: str(info[name]) for name in TAGS if info.get(name) is not None}
        if info.get("size") is not None:
            found["size"] = str(info["size"])
        return found

    def _opened(self, at: int, found: Mapping[str, str]) -> tuple[Any, int]:
        """The file for reading on, and from which byte on that is."""
        system, path = self._system()
        if not self._is_http:
            file = system.open(path, "rb", cache_type="none", block_size=BLOCK_BYTES)
            file.seek(at)
            return file, at
        headers = dict(system.kwargs.get("headers", {}))
        if at or self._span is not None:
            end = "" if self._span is None else at + self._span - 1
            headers["Range"] = f"bytes={at}-{end}"
            tag = found.get("ETag", "")
            # Of another version, the server then sends all of it, and not its end.
            condition = tag if tag and not tag.startswith("W/") else found.get("Last-Modified")
            if condition:
                headers["If-Range"] = condition
        file = system.open(path, "rb", block_size=0, size=1, headers=headers)
        return file, at if file.r.status == 206 else 0

    def _system(self) -> tuple[Any, str]:
        fsspec = extra("fsspec", f"{self._shown} is read through fsspec")
        options: dict[str, Any] = dict(self._address.options)
        if self._is_http:
            headers = {"Accept-Encoding": "identity", **options.get("headers", {})}
            options = {**options, "headers": headers}
        # Not among fsspec's remembered ones: neither listings nor secrets are to stay there.
        if self._made is None:
            self._made = fsspec.core.url_to_fs(
                self._address.url, skip_instance_cache=True, use_listings_cache=False, **options
            )
        system, path = self._made
        return system, str(path)

    def _told(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except SourceError:
            raise
        except FileNotFoundError as error:
            # fsspec calls everything so that keeps it from asking over HTTP.
            cause = error.__cause__
            if isinstance(cause, Exception) and getattr(cause, "status", None) not in (404, 410):
                raise self._translated(cause) from None
            raise SourceError(f"{self._shown} does not exist") from None
        except PermissionError:
            raise SourceError(
                f"{self._shown} may not be read with what was given in storage_options"
            ) from None
        except Exception as error:  # noqa: BLE001 - of whatever library the protocol has
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> Exception:
        status = getattr(error, "status", None)
        words = self._secrets.out_of(str(error) or type(error).__name__)
        if isinstance(status, int) and 400 <= status < 500 and status not in (408, 429):
            return SourceError(f"{self._shown} cannot be read: {words}")
        if isinstance(error, ImportError | TypeError):
            return SourceError(f"{self._shown} cannot be read: {words}")
        return _Away(words)

    def _wait(self, run: Run, act: Callable[[], T]) -> T:
        """What the network gives, in a thread that is left alone when there is a wish meanwhile."""
        answer: list[T] = []
        faults: list[Exception] = []

        def ask() -> None:
            try:
                answer.append(self._told(act))
            except Exception as fault:  # noqa: BLE001 - raised again below
                faults.append(fault)
            run.control.wake()

        start_thread(ask, name=f"job {run.job_id} source")
        run.control.wait_until(
            lambda: bool(answer or faults) or run.control.wish is not Wish.NONE, 1e9
        )
        check_wish(run)
        if faults:
            raise faults[0]
        return answer[0]

    @staticmethod
    def _size(spool: Spool) -> int:
        part = spool.download.with_name("download.part")
        return part.stat().st_size if part.exists() else 0


class _Away(SourceError):
    """The network's fault, or the server's: it may be over soon."""

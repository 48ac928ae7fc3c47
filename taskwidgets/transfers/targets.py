"""Where a download goes, as its caller says it: a file, a folder, or a folder at a URL."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskwidgets.engine.url_identity import url_identity
from taskwidgets.errors import OptionError
from taskwidgets.transfers.disk_folder import DiskFolder
from taskwidgets.transfers.origins.extras import check_extra, extra
from taskwidgets.transfers.origins.masks import Secrets, masked_url
from taskwidgets.transfers.origins.remote import PACKAGES, is_url
from taskwidgets.transfers.part_formats import PARQUET
from taskwidgets.transfers.places import UrlPlace
from taskwidgets.transfers.url_folder import UrlFolder

__all__ = ["Target", "given_target"]

READ_ONLY = frozenset({"http", "https", "data"})  # protocols


@dataclass(frozen=True)
class Target:
    """What is to be made: ``path`` as the options have it, and the ``format`` of a folder's parts.

    ``material``: the place at a URL, with the secrets that no store may have. ``secret_identity``:
    which place that is, a text that may hold secrets; ``path`` then is its display form.
    """

    path: str
    format: str | None
    material: UrlPlace | None = None
    secret_identity: str | None = None

    def check_shared(self) -> None:
        """OptionError unless workers of a cluster may write there, each a file of its own."""
        if self.format is None:
            raise OptionError(
                "with client= the workers write a folder of part files: end the path with a /"
            )
        if self.path.startswith("memory://"):
            raise OptionError(f"{self.path}: the memory of a process is not that of its workers")

    def checked(self, *, replace: bool) -> dict[str, Any]:
        """What the plan keeps of a folder that may be made; TargetError where it may not."""
        if self.format == PARQUET:
            check_extra("pyarrow", "a Parquet file is written by pyarrow")
        token = secrets.token_hex(4)
        secret = False
        if self.material is None:
            DiskFolder(Path(self.path), 0, replace=replace).check()
        else:
            place = self.material
            secret = bool(Secrets(place.url, place.options)) or bool(place.options)
            UrlFolder(place, token, replace=replace).check()
        return {"token": token, "secret": secret}


def given_target(
    path: str | Path, format: str | None, options: Mapping[str, object] | None
) -> Target:
    """What a call means; a path that ends in / is a folder's. OptionError where it means nothing.

    ``options``: fsspec's, for a URL.
    """
    if is_url(path):
        return _at_url(str(path), format, options)
    if options is not None:
        raise OptionError("storage_options are for a URL; this path is one of this machine")
    whole = str(Path(path).expanduser().absolute())
    if not str(path).endswith("/"):
        return Target(whole, format)
    return Target(whole.rstrip("/") + "/", format or "csv")


def _at_url(url: str, format: str | None, options: Mapping[str, object] | None) -> Target:
    if options is not None and not isinstance(options, Mapping):
        raise OptionError("storage_options must be a dictionary, as fsspec takes it")
    shown = masked_url(url)
    what = f"{shown} is written through fsspec"
    protocol = url.partition("://")[0].lower()
    if not url.endswith("/"):
        raise OptionError(
            f"{shown} is a URL, at which a folder of part files is made: end it with a /"
        )
    if protocol in READ_ONLY:
        raise OptionError(f"{shown}: nothing can be written by {protocol}")
    for package in ("fsspec", PACKAGES.get(protocol)):
        if package is not None:
            check_extra(package, what)
    if protocol not in extra("fsspec", what).available_protocols():
        raise OptionError(f"{shown}: fsspec knows no protocol {protocol!r}")
    place = UrlPlace(url, dict(options or {}))
    return Target(shown, format or "csv", place, url_identity(url, place.options))

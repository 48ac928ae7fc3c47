"""Folders of part files: made beside or in their final place, published whole by a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from taskwidgets.errors import SourceChanged, TargetExists
from taskwidgets.transfers.places import Place

__all__ = ["Folder", "check_parts", "exists_already"]


class Folder(Protocol):
    """The folder of one export, and what stands under its name meanwhile.

    Its methods raise TargetError, or one of its kinds, where the place does not do as asked.
    """

    @property
    def place(self) -> Place:
        """Where parts are written."""

    def check(self) -> None:
        """Before anything is begun: TargetExists or TargetError unless it may be made there."""

    def begin(self, parts: Mapping[str, int]) -> None:
        """Have the place. ``parts``: the bytes of those that are there already, by the attempts'
        names; SourceChanged where one is not."""

    def final_name(self, number: int, name: str) -> str:
        """What a part is called in the end, by its number and the attempt's name."""

    def is_taken(self) -> bool:
        """Whether something stands under the final name that is to be replaced."""

    def publish(self, manifest: bytes, names: Mapping[str, str]) -> None:
        """Make it whole, in one step that others see; ``names``: the final ones by the attempts'.

        Done again after a crash, it finds what is done already. TargetExists when somebody else
        was first, SourceChanged when a part is not there. What is replaced can still be had
        back by ``undo``.
        """

    def settle(self) -> None:
        """Give up what was replaced."""

    def undo(self, sha256: str | None, *, over: bool) -> None:
        """Remove all that was made, and have back what was replaced.

        ``sha256``: of the manifest, if there was to be one; ``over``: something was there before.
        """

    def stands(self, sha256: str) -> bool:
        """Whether it is published as it was made: its manifest of this hash, its parts' sizes."""


def check_parts(shown: str, parts: Mapping[str, int], found: Mapping[str, int]) -> None:
    """SourceChanged where a part is missing or has another size."""
    for name, size in parts.items():
        if found.get(name) != size:
            what = "is gone" if name not in found else f"has {found[name]:,} bytes, not {size:,}"
            raise SourceChanged(f"{shown}: the part {name} {what}; start over with again=True")


def exists_already(shown: str) -> TargetExists:
    """The error for a folder that is not empty."""
    return TargetExists(
        f'{shown} exists already, with files in it; choose if_exists="replace" or another name'
    )

"""The part of a form in which a file is chosen: the server's folders, or one from the browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from taskwidgets.forms import UploadForm
from taskwidgets.forms.folders import Entry, Listing
from taskwidgets.runtime.threads import LoopHandle
from taskwidgets.runtime.words import bytes_text
from taskwidgets.widgets import form_markup, markup
from taskwidgets.widgets.entry_list import EntryList, Item
from taskwidgets.widgets.newest import Newest
from taskwidgets.widgets.sending import ARRIVED, sender
from taskwidgets.widgets.server_link import server_folder
from taskwidgets.widgets.traits import free_route, set_value

__all__ = ["FilePart"]

SOCKET_BYTES = 10_000_000  # what the kernel's socket takes in one message, a little less


class FilePart:
    """``chosen`` is called on the loop when the form has another file."""

    def __init__(self, form: UploadForm, loop: LoopHandle, chosen: Callable[[], None]) -> None:
        self._form = form
        self._loop = loop
        self._chosen = chosen
        self._base_url: str | None = None  # of the server's; None: the page cannot reach it
        self._listing: Newest[Listing] = Newest(loop, "list a folder", self._show, self._refuse)
        self._saving: Newest[Path] = Newest(loop, "save a file", self._on_saved, self._refuse)
        self._folder = form.folders.root
        self._where = widgets.HTML()
        self._list: EntryList[Entry | None] = EntryList(loop, "Filter", self._open)
        self._sender = widgets.HTML()
        self._arrived = widgets.Text()
        self._arrived.add_class(ARRIVED)
        self._arrived.observe(lambda change: loop.call(self._on_arrival, change["new"]), "value")
        self._post = widgets.FileUpload(
            description="Send a file from this computer", icon="", multiple=False
        )
        self._post.observe(lambda change: loop.call(self._on_post, change["new"]), "value")
        self._fault = widgets.HTML()
        self._words = widgets.HTML()
        for widget in (self._arrived, self._post):
            free_route(widget)
        self.root = widgets.VBox(
            [
                widgets.HTML(form_markup.part("1. Choose a file")),
                self._where,
                self._list.filter,
                self._list.root,
                self._sender,
                self._arrived,
                self._fault,
                self._words,
            ]
        )

    def begin(self) -> None:
        """Find the server's root, and list it."""
        self._listing.ask(self._first_listing)

    def _first_listing(self) -> Listing:
        server = server_folder()
        if server is not None:
            root = server[1]
            if root == Path(root.anchor) or Path.cwd().is_relative_to(root):
                self._base_url = server[0]
                self._form.browse_below(root)
        here = Path.cwd()
        folders = self._form.folders
        return folders.listing(here if here.is_relative_to(folders.root) else folders.root)

    def _list_folder(self, folder: Path) -> None:
        self._listing.ask(lambda: self._form.folders.listing(folder))

    # ------------------------------------------------------------------ on the loop

    def _show(self, listing: Listing) -> None:
        folders = self._form.folders
        moved = listing.folder != self._folder
        self._folder = listing.folder
        shown = folders.shown(listing.folder)
        root = folders.root.name or "/"
        where = form_markup.name(f"Folder: {root}{'/' if shown else ''}{shown}")
        set_value(self._where, form_markup.line(where))
        items: list[Item[Entry | None]] = []
        if listing.folder != folders.root:
            items.append(Item(None, "..", "to the folder above", "folder"))
        items += [_item(entry) for entry in listing.entries]
        others = listing.others
        note = (
            f"{others:,} other file{'s are' if others > 1 else ' is'} not shown" if others else ""
        )
        if not listing.entries:
            note = f"no data files are in this folder{'; ' if note else ''}{note}"
        self._list.show(items, note, afresh=moved)
        set_value(self._fault, "")
        if self._base_url is not None:
            plain = shown.isprintable()  # no server takes another in its addresses
            set_value(self._sender, sender(self._base_url, shown) if plain else "")
        elif self._post not in self.root.children:
            limit = form_markup.note(
                f"Up to {bytes_text(SOCKET_BYTES)}; drop a larger file into the notebook's own "
                "file browser, and choose it here."
            )
            self._sender.value = limit
            before = list(self.root.children)
            before.insert(before.index(self._sender), self._post)
            self.root.children = before

    def _refuse(self, error: str) -> None:
        self._fault.value = ""
        self._fault.value = markup.fault(error)

    def _open(self, entry: Entry | None) -> None:
        if entry is None:
            self._list_folder(self._folder.parent)
        elif entry.is_folder:
            self._list_folder(entry.path)
        else:
            self._take(entry.path)

    def _take(self, path: Path) -> None:
        if self._form.job is not None:
            return
        try:
            self._form.choose(path)
        except Exception as error:  # noqa: BLE001 - a handler has nobody who would hear it
            self._refuse(str(error))
            return
        set_value(self._fault, "")
        words = f"Chosen: {form_markup.name(self._form.folders.shown(path))}"
        set_value(self._words, form_markup.line(words))
        self._chosen()

    # ------------------------------------------------------------------ from the browser

    def _on_arrival(self, told: str) -> None:
        """The page says that it has sent a file: [folder, name, when]."""
        try:
            folder, name, _ = json.loads(told)
            path = self._form.folders.inside(str(folder)) / str(name)
        except Exception:  # noqa: BLE001 - it is what a page wrote
            return
        self._on_saved(path)

    def _on_post(self, files: Any) -> None:
        """A file came through the kernel's socket, whole."""
        if not files:
            return
        name, content = str(files[0]["name"]), files[0]["content"]
        folder = self._folder
        self._post.value = ()  # the kernel need not keep it

        def save() -> Path:
            return self._form.folders.save(folder, name, content)

        self._saving.ask(save)

    def _on_saved(self, path: Path) -> None:
        self._take(path)
        self._list_folder(path.parent)


def _item(entry: Entry) -> Item[Entry | None]:
    modified = f"{entry.modified:%Y-%m-%d %H:%M}"
    if entry.is_folder:
        return Item(entry, f"{entry.name}/", modified, "folder")
    return Item(entry, entry.name, f"{bytes_text(entry.size)}, {modified}", "file")

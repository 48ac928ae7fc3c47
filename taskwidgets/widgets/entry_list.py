"""A list to choose from by mouse or keyboard: a field that filters, and a button for each entry."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ipywidgets as widgets

from taskwidgets.runtime.threads import LoopHandle
from taskwidgets.widgets import form_markup
from taskwidgets.widgets.traits import free_route, set_value

__all__ = ["EntryList", "Item"]

MOST_SHOWN = 50  # entries; a filter finds the others
LATE = 5.0  # seconds in which letters typed before are still on their way
STEP = 6  # buttons that are made in one go, so that the loop is not held

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Item(Generic[ValueT]):
    """One entry: its name, what is told beside it, its icon ("folder", "file" or "")."""

    value: ValueT
    name: str
    detail: str
    icon: str = ""


class EntryList(Generic[ValueT]):
    """``root`` is the list; ``chosen`` is called on the loop with an entry's value.

    Enter in the field takes the first entry that is shown.
    """

    def __init__(self, loop: LoopHandle, label: str, chosen: Callable[[ValueT], None]) -> None:
        self._loop = loop
        self._chosen = chosen
        self._items: Sequence[Item[ValueT]] = ()
        self._shown: list[Item[ValueT]] = []
        self._note = ""
        self._done_with = ""  # what the filter had when something was opened by it ...
        self._done_at = 0.0  # ... and when that was
        self._buttons: list[widgets.Button] = []
        self._button_layout = widgets.Layout()
        self._button_style = widgets.ButtonStyle()
        self.filter = widgets.Text(description=label, placeholder="type a part of a name")
        self.filter.observe(lambda _: loop.call(self._refresh), "value")
        self.filter.on_msg(self._on_message)
        free_route(self.filter)
        self._list = widgets.VBox([])
        self._list.add_class("taskwidgets-entries")
        self._words = widgets.HTML()
        self.root = widgets.VBox([self._list, self._words])

    def show(self, items: Sequence[Item[ValueT]], note: str = "", *, afresh: bool = True) -> None:
        """Have these entries in the list; ``afresh``: with an empty filter. On the loop."""
        self._items, self._note = items, note
        if afresh:
            self._done_with, self._done_at = self.filter.value, time.monotonic()
            if self.filter.value:
                self.filter.value = ""
        self._refresh()

    def _refresh(self) -> None:
        value = self.filter.value
        if self._is_late(value):
            self.filter.value = value = ""
        elif value:
            self._done_with = ""
        wanted = value.strip().casefold()
        found = [item for item in self._items if wanted in item.name.casefold()]
        self._shown = found[:MOST_SHOWN]
        words = self._note
        if len(found) > MOST_SHOWN:
            words = f"and {len(found) - MOST_SHOWN:,} more: type a part of a name"
        elif not found:
            words = "nothing is like this" if wanted else self._note or "nothing is here"
        set_value(self._words, form_markup.note(words))
        self._fill()

    def _is_late(self, value: str) -> bool:
        """Whether it was typed for the list before: the page sends the last letters behind Enter.

        What is typed for this one begins with a single letter.
        """
        return (
            bool(self._done_with)
            and len(value) > 1
            and value.startswith(self._done_with)
            and time.monotonic() - self._done_at < LATE
        )

    def _fill(self) -> None:
        """Write the buttons; where some are missing, make a few and come again."""
        missing = len(self._shown) - len(self._buttons)
        for _ in range(min(STEP, missing)):
            self._buttons.append(self._button(len(self._buttons)))
        for button, item in zip(self._buttons, self._shown, strict=False):
            description = form_markup.name(item.name)
            if (button.description, button.tooltip) != (description, item.detail):
                button.description, button.tooltip = description, item.detail
                free_route(button)
            classes = tuple(button._dom_classes)
            wanted = (f"taskwidgets-icon-{item.icon}",) if item.icon else ()
            if classes != wanted:
                button._dom_classes = wanted
        children = tuple(self._buttons[: len(self._shown)])
        if self._list.children != children:
            self._list.children = children
        if missing > STEP:
            self._loop.call(self._fill)

    def _button(self, place: int) -> widgets.Button:
        button = widgets.Button(layout=self._button_layout, style=self._button_style)
        button.on_click(lambda _: self._take(place))
        free_route(button)
        return button

    def _take(self, place: int) -> None:
        if place < len(self._shown):
            self._loop.call(self._chosen, self._shown[place].value)

    def _on_message(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        if content.get("event") == "submit":  # what a text field sends when Enter is pressed
            self._loop.call(self._take_first)

    def _take_first(self) -> None:
        self._refresh()
        if self._shown:
            self._chosen(self._shown[0].value)

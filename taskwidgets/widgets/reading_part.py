"""The part of a form that shows how a file is read, and lets each decision be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from taskwidgets.forms import UploadForm
from taskwidgets.forms.upload import UploadLook
from taskwidgets.previews import decision_words
from taskwidgets.runtime.threads import LoopHandle
from taskwidgets.widgets import form_markup, markup
from taskwidgets.widgets.form_view import DEFAULT, box, chosen, dropdown, fields
from taskwidgets.widgets.newest import Newest
from taskwidgets.widgets.preview_markup import preview_html
from taskwidgets.widgets.traits import free_route, set_value, show

__all__ = ["ReadingPart"]

TYPING = 0.25  # seconds in which changes are gathered before the file is looked at again
MOST_TYPES = 60  # columns whose types can be chosen here
STEP = 4  # inputs that are made in one go, so that the loop is not held

DETECTED = "as detected"
CHOICES: dict[str, tuple[str, list[tuple[str, Any]]]] = {
    "delimiter": (
        "Delimiter",
        [
            ("comma  ,", ","), ("semicolon  ;", ";"), ("tab", "\t"), ("pipe  |", "|"),
            ("blank", " "), ("colon  :", ":"), ("caret  ^", "^"), ("tilde  ~", "~"),
            ("none: one column", ""),
        ],
    ),
    "encoding": (
        "Encoding",
        [
            (name, name)
            for name in (
                "utf-8", "windows-1252", "iso-8859-1", "iso-8859-15", "windows-1250",
                "windows-1251", "koi8-r", "utf-16", "cp437", "cp850", "mac-roman", "shift_jis",
                "euc_jp", "gb18030", "big5", "euc_kr",
            )
        ],
    ),
    "header": (
        "Header",
        [("none: columns are numbered", False), ("1 row", True), ("2 rows", 2), ("3 rows", 3)],
    ),
    "quotechar": ("Quotes", [('double quote  "', '"'), ("apostrophe  '", "'"), ("none", "")]),
    "decimal": ("Decimals", [("point  1.5", "."), ("comma  1,5", ",")]),
}  # fmt: skip
FINDINGS = {"header": "header_rows"}  # where detection has another name
TYPES = (
    "text", "integer", "bigint", "smallint", "numeric", "double precision", "real", "boolean",
    "date", "timestamp", "timestamptz", "time", "uuid", "jsonb",
)  # fmt: skip


class ReadingPart:
    """``changed`` is called on the loop when another look has come in."""

    def __init__(self, form: UploadForm, loop: LoopHandle, changed: Callable[[], None]) -> None:
        self._form = form
        self._loop = loop
        self._changed = changed
        self._asked: object = None
        self._columns: tuple[str, ...] = ()
        self._kinds: dict[str, str] = {}  # each column's detected type, as the inputs have it
        self._looking: Newest[UploadLook] = Newest(
            loop, "look at a file", self._show, self._refuse, TYPING
        )
        self._inputs = {
            name: dropdown(label, [(DETECTED, DEFAULT), *options])
            for name, (label, options) in CHOICES.items()
        }
        self._nulls = widgets.Text(description="NULL is written", placeholder=DETECTED)
        self._types: list[widgets.Dropdown] = []
        self._type_box = widgets.HBox([])
        self._type_box.add_class("taskwidgets-fields")
        self._type_words = widgets.HTML()
        self._status = widgets.HTML()
        self._fault = widgets.HTML()
        self._shown = widgets.HTML()
        self._more = box(self._shown, self._type_words, self._type_box)
        self.root = box(
            widgets.HTML(form_markup.part("2. How it is read")),
            fields(*self._inputs.values(), self._nulls),
            self._status,
            self._fault,
            self._more,
        )

    @property
    def inputs(self) -> tuple[widgets.DOMWidget, ...]:
        """What is to be watched."""
        return (*self._inputs.values(), self._nulls)

    def begin(self) -> None:
        """The form has another file: all that was said of the last one goes."""
        for one in self._inputs.values():
            one.value = DEFAULT
        self._nulls.value = ""
        self._columns, self._kinds, self._asked = (), {}, None
        show(self._more, False)
        show(self.root, True)
        self.gather()

    def gather(self) -> None:
        """Take over what stands in the inputs; look again when it is something else."""
        reading = {name: chosen(one) for name, one in self._inputs.items()}
        self._form.change(**reading, null_values=self._null_values())
        columns = self._columns
        self._form.types = {
            column: one.value
            for column, one in zip(columns, self._types, strict=False)
            if chosen(one) is not None
        }
        asked = (self._form.source, repr(self._form.reading), self._form.on_error)
        if asked != self._asked:
            self._asked = asked
            set_value(self._status, form_markup.line("looking at the file…"))
            self._looking.ask(self._form.look)

    def _null_values(self) -> str | list[str] | None:
        if not self._nulls.value.strip():
            return None
        listed = [one.strip() for one in self._nulls.value.split(",")]
        return listed[0] if len(listed) == 1 else listed

    # ------------------------------------------------------------------ on the loop

    def _refuse(self, error: str) -> None:
        set_value(self._status, "")
        show(self._more, False)
        self._fault.value = markup.fault(error)
        self._changed()

    def _show(self, look: UploadLook) -> None:
        shown = look.preview
        set_value(self._fault, "")
        many = len(shown.columns)
        total = shown.total
        rows = "" if total is None else f", {total:,} row{'' if total == 1 else 's'}"
        set_value(
            self._status,
            form_markup.line(f"read as {many:,} column{'' if many == 1 else 's'}{rows}"),
        )
        words = dict(decision_words(shown))
        for name, one in self._inputs.items():
            finding = shown.findings.get(FINDINGS.get(name, name))
            if name not in self._form.reading and finding is not None:
                said = words.get(CHOICES[name][0].lower()) or str(finding.value)
                if name == "decimal":
                    said = "comma" if finding.value == "," else "point"
                _label_first(one, form_markup.name(f"detected: {said}"))
        nulls = [text or "nothing" for text in shown.description.null_values]
        placeholder = form_markup.name(f"detected: {', '.join(nulls)}")
        if "null_values" not in self._form.reading and self._nulls.placeholder != placeholder:
            self._nulls.placeholder = placeholder
        set_value(self._shown, form_markup.scrolled("First rows of the file", preview_html(shown)))
        self._offer_types(shown.columns, dict(shown.types))
        show(self._more, True)
        self._changed()

    # ------------------------------------------------------------------ types

    def _offer_types(self, columns: tuple[str, ...], kinds: dict[str, str]) -> None:
        kept = self._form.types
        self._columns, self._kinds = columns[:MOST_TYPES], kinds
        self._form.types = {name: kind for name, kind in kept.items() if name in columns}
        words = "Column types, as detected from a sample; choose another where you know better."
        if len(columns) > MOST_TYPES:
            words += (
                f" Those of the last {len(columns) - MOST_TYPES:,} columns can be given in code: "
                "types={...}"
            )
        set_value(self._type_words, form_markup.note(words))
        self._fill_types(0)

    def _fill_types(self, start: int) -> None:
        """Write the inputs from this one on; a few, and come again."""
        columns = self._columns
        for place in range(start, min(start + STEP, len(columns))):
            column = columns[place]
            kind = self._kinds.get(column, "text")
            if place == len(self._types):
                self._types.append(widgets.Dropdown())
                self._types[-1].observe(lambda _: self._loop.call(self._on_type), "value")
                free_route(self._types[-1])
            one, name = self._types[place], form_markup.name(column) or f"column {place + 1}"
            if one.description != name or one.tooltip != f"Type of {name}":
                one.description, one.tooltip = name, f"Type of {name}"
            options = [(f"{kind} (detected)", DEFAULT), *((other, other) for other in TYPES)]
            wanted = self._form.types.get(column, DEFAULT)
            if list(one.options) != options:
                one.options = options
            if one.value is not wanted and one.value != wanted:
                one.value = wanted
        if start + STEP < len(columns):
            self._loop.call(self._fill_types, start + STEP)
        elif self._type_box.children != tuple(self._types[: len(columns)]):
            self._type_box.children = self._types[: len(columns)]

    def _on_type(self) -> None:
        if len(self._types) >= len(self._columns):  # they are all there, and of these columns
            self.gather()
            self._changed()


def _label_first(one: widgets.Dropdown, label: str) -> None:
    """Write the label of a choice's first option, while that is the one chosen.

    New options choose the first one: another would be lost.
    """
    options = list(one.options)
    if one.index == 0 and options[0][0] != label:
        one.options = [(label, DEFAULT), *options[1:]]
        free_route(one)

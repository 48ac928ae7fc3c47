"""Writing widgets' traits: only what has changed, and so that the next click finds its way."""

from __future__ import annotations

import ipywidgets as widgets

__all__ = ["enable", "free_route", "set_value", "show"]


def set_value(widget: widgets.HTML, value: str) -> None:
    """Set what an HTML widget shows; an unchanged value sends nothing."""
    if widget.value != value:
        widget.value = value


def enable(button: widgets.Button, enabled: bool) -> None:
    """Have a button be clicked or not."""
    if button.disabled is enabled:
        button.disabled = not enabled
        free_route(button)


def show(widget: widgets.DOMWidget, shown: bool) -> None:
    """Have a widget take its place on the page or not."""
    display = "" if shown else "none"
    if (widget.layout.display or "") != display:
        widget.layout.display = display or None


def free_route(button: widgets.DOMWidget) -> None:
    """Let the button's next click come by the way that the front end chose.

    ipykernel 7.4 sends a comm's messages to the shell that last published on it, over the front
    end's choice (``BaseComm._reply_subshell_for``). For a button that a cell made or the job's
    loop enabled this is the main shell: a click would wait for the end of a cell that blocks,
    though JupyterLab sent it to a subshell. Without the attribute the front end's choice holds;
    other releases do not have it.
    """
    comm = button.comm
    if comm is not None and hasattr(comm, "_reply_subshell_id"):
        del comm._reply_subshell_id

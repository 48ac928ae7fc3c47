"""The forms' HTML and CSS; what comes from outside is escaped here, as in ``markup``."""

from __future__ import annotations

from html import escape

from taskwidgets.widgets import markup

__all__ = ["STYLE", "code_line", "line", "name", "note", "part", "scrolled", "still", "title"]

LONGEST_NAME = 80  # characters of a name on a button or a label

STYLE = (
    markup.STYLE
    + f"""
<style onload="{markup.MARK_LISTS}">
"""
    + """
.taskwidgets-form {
  border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 6px; padding: 10px 14px;
  max-width: 900px; box-sizing: border-box; overflow: hidden;
}
.taskwidgets-form.taskwidgets-begun { border: none; padding: 0; }
.taskwidgets-form .widget-html, .taskwidgets-form .widget-html-content {
  width: 100%; line-height: 1.45; margin: 0; height: auto; min-width: 0;
}
.taskwidgets-form .widget-box, .taskwidgets-form .widget-vbox { overflow: visible; }
.taskwidgets-title { font-weight: 600; font-size: var(--jp-ui-font-size2, 15px); }
.taskwidgets-part {
  font-weight: 600; margin: 10px 0 2px; padding-top: 8px;
  border-top: 1px solid var(--jp-border-color2, #e0e0e0);
}
/* Labels stand above their inputs, which share a row as long as there is room. */
.taskwidgets-fields { flex-flow: row wrap; align-items: flex-end; gap: 4px 12px; }
.taskwidgets-form .widget-inline-hbox {
  flex-flow: column nowrap; align-items: stretch; height: auto; overflow: visible;
  width: auto; margin: 2px 0;
}
.taskwidgets-form .taskwidgets-buttons { margin: 8px 0 0; }
.taskwidgets-fields > .widget-inline-hbox { flex: 1 1 150px; min-width: 130px; max-width: 250px; }
.taskwidgets-fields > .taskwidgets-wide-field { flex: 1 1 320px; max-width: none; }
.taskwidgets-form .widget-inline-hbox > .widget-label {
  width: auto; height: auto; text-align: left; line-height: 1.4; margin: 0;
  color: var(--jp-ui-font-color1, inherit); overflow: hidden; text-overflow: ellipsis;
}
.taskwidgets-form .widget-inline-hbox select,
.taskwidgets-form .widget-inline-hbox input,
.taskwidgets-form .widget-inline-hbox textarea {
  width: 100%; min-width: 0; box-sizing: border-box; margin: 0; flex: 0 0 auto;
  color: var(--jp-ui-font-color1, inherit);
}
.taskwidgets-form .widget-inline-hbox :is(input, select:not([multiple])) { height: 28px; }
/* The arrow that ipywidgets draws is dark on a dark ground. */
.taskwidgets-form .widget-inline-hbox select:not([multiple]) {
  background-image: linear-gradient(45deg, transparent 50%, currentcolor 50%),
    linear-gradient(135deg, currentcolor 50%, transparent 50%);
  background-position: right 13px center, right 8px center; background-size: 5px 5px;
  background-repeat: no-repeat; padding-right: 24px; text-overflow: ellipsis;
}
.taskwidgets-form .widget-inline-hbox textarea {
  font-family: var(--jp-code-font-family, monospace);
}
.taskwidgets-form input::placeholder, .taskwidgets-form textarea::placeholder {
  color: var(--jp-ui-font-color2, #616161); opacity: 1;
}
.taskwidgets-form .jupyter-button:focus-visible,
.taskwidgets-form .taskwidgets-scrolled:focus-visible,
.taskwidgets-form :is(input, select, textarea):focus-visible {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px;
}
.taskwidgets-entries {
  max-height: 210px; overflow-x: hidden !important; overflow-y: auto !important;
  border: 1px solid var(--jp-border-color2, #e0e0e0); padding: 3px; margin: 4px 0;
}
.taskwidgets-entries .jupyter-button {
  flex: 0 0 auto; display: flex; width: 100%; height: auto; min-height: 26px; margin: 0;
  padding: 2px 8px; line-height: 1.5; text-align: left; white-space: normal;
  overflow-wrap: anywhere; background: none; box-shadow: none;
  color: var(--jp-ui-font-color1, inherit);
}
.taskwidgets-entries .jupyter-button:hover { background: var(--jp-layout-color2, #eeeeee); }
/* What is told of an entry is its tooltip, set beside its name. */
.taskwidgets-entries .jupyter-button::after {
  content: attr(title); margin-left: auto; padding-left: 16px; flex: 0 0 auto; max-width: 66%;
  text-align: right;
  color: var(--jp-ui-font-color2, #616161); font-variant-numeric: tabular-nums;
}
.taskwidgets-icon-folder::before {
  background: none; border: solid currentcolor; border-width: 4px 2px 2px; flex: 0 0 auto;
  align-self: center; border-radius: 2px;
}
.taskwidgets-icon-file::before {
  background: none; border: 1px solid currentcolor; width: 8px; height: 11px; margin-right: 9px;
  flex: 0 0 auto; align-self: center;
}
.taskwidgets-primary .jupyter-button.mod-primary { font-weight: 600; }
.taskwidgets-sender { margin: 4px 0; }
.taskwidgets-sender input { color: var(--jp-ui-font-color1, inherit); max-width: 100%; }
.taskwidgets-arrived { display: none !important; }
.taskwidgets-scrolled { max-height: 320px; overflow: auto; margin: 6px 0; padding: 2px; }
.taskwidgets-code { margin: 8px 0 0; }
.taskwidgets-code pre {
  margin: 2px 0 0; padding: 6px 8px; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--jp-layout-color2, #eeeeee); color: var(--jp-ui-font-color1, inherit);
  font-family: var(--jp-code-font-family, monospace); font-size: var(--jp-code-font-size, 13px);
  user-select: all;
}
</style>
"""
)


def title(text: str) -> str:
    """The form's heading."""
    return (
        '<div class="taskwidgets taskwidgets-title" role="heading" aria-level="3">'
        f"{escape(text)}</div>"
    )


def part(text: str) -> str:
    """The heading of a part of the form."""
    return (
        '<div class="taskwidgets taskwidgets-part" role="heading" aria-level="4">'
        f"{escape(text)}</div>"
    )


def note(text: str) -> str:
    """A quiet line."""
    return f'<div class="taskwidgets taskwidgets-quiet">{escape(text)}</div>' if text else ""


def line(text: str) -> str:
    """A line that a screen reader hears when it changes."""
    return f'<div class="taskwidgets" role="status">{escape(text)}</div>' if text else ""


def scrolled(label: str, html: str) -> str:
    """HTML in a box of its own, which the keyboard can scroll."""
    return (
        f'<div class="taskwidgets-scrolled" tabindex="0" role="region" '
        f'aria-label="{escape(label)}">{html}</div>'
    )


def code_line(code: str) -> str:
    """The call that does the same, to be copied."""
    return (
        '<div class="taskwidgets taskwidgets-code"><span class="taskwidgets-quiet">The same in '
        f"code:</span><pre>{escape(code)}</pre></div>"
    )


def still(text: str) -> str:
    """What stays in a saved notebook."""
    return markup.static_html(text)


def name(text: str) -> str:
    """A name on one line, as a button, a label or an option has it."""
    shown = "".join(
        sign if sign.isprintable() else "⏎" if sign == "\n" else "\N{REPLACEMENT CHARACTER}"
        for sign in text
    )
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"

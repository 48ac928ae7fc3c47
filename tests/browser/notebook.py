"""A notebook in JupyterLab as a user has it before her: cells, outputs, the panel, its buttons."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from .server import LabServer, wait_for

ValueT = TypeVar("ValueT")

BUTTONS = ("Pause", "Resume", "Terminate")

# Of all notebooks that the page has open, the one in front.
FRONT = ".jp-NotebookPanel:not(.lm-mod-hidden)"

# What the nodes of a locator say, for those that are seen.
SEEN_TEXTS = """nodes => nodes.filter(node => node.checkVisibility({visibilityProperty: true}))
    .map(node => node.innerText.trim())"""


def seen_texts(nodes: Locator) -> list[str]:
    """The texts of all that are seen, by one look: what is asked for one by one may have gone."""
    texts: list[str] = nodes.evaluate_all(SEEN_TEXTS)
    return texts


class Lab:
    """One page with JupyterLab, reused by the tests; ``frames`` are what its sockets received."""

    def __init__(self, server: LabServer, page: Page) -> None:
        self.server = server
        self.page = page
        self.frames: list[tuple[float, bytes]] = []
        page.on(
            "websocket", lambda socket: socket.on("framereceived", lambda data: self._keep(data))
        )

    def _keep(self, data: str | bytes) -> None:
        text = data.encode() if isinstance(data, str) else data
        self.frames.append((time.monotonic(), text))

    def load(self) -> None:
        """Load the page, with the settings that hold now."""
        self.page.goto(f"{self.server.url}/lab?token={self.server.token}&reset")
        self.page.wait_for_function("() => window.jupyterapp !== undefined", timeout=60_000)
        self.page.evaluate("() => window.jupyterapp.restored.then(() => true)")

    def command(self, name: str, **arguments: object) -> None:
        """Run one of JupyterLab's commands."""
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => true)",
            [name, arguments],
        )

    def set_theme(self, name: str) -> None:
        """Change the theme and wait until the page wears it."""
        self.command("apputils:change-theme", theme=name)
        self.page.wait_for_function(
            "name => document.body.dataset.jpThemeName === name", arg=name, timeout=15_000
        )

    def wait(self, look: Callable[[], ValueT], what: str, seconds: float = 20.0) -> ValueT:
        """As ``wait_for``, while the page's events go on being heard.

        A look that waited in vain for something to be on the page has only not seen it yet.
        """

        def seen() -> ValueT | None:
            try:
                return look()
            except PlaywrightTimeout:
                return None

        try:
            value = wait_for(
                seen, what, seconds, lambda pause: self.page.wait_for_timeout(pause * 1000)
            )
            assert value is not None
            return value
        except AssertionError as failure:
            failure.add_note(f"The page shows:\n{self.page.locator('body').inner_text()}")
            raise

    def open(self, path: str) -> Notebook:
        """Open a notebook and wait until its kernel is ready."""
        self.command("docmanager:open", path=path, factory="Notebook")
        notebook = Notebook(self, path)
        notebook.wait_ready()
        return notebook


class Notebook:
    """One open notebook."""

    def __init__(self, lab: Lab, path: str) -> None:
        self.lab = lab
        self.server = lab.server
        self.path = path
        self.node = lab.page.locator(FRONT)

    def kernel_status(self) -> str:
        """What JupyterLab believes of the kernel: idle, busy, restarting ..."""
        return str(
            self.lab.page.evaluate(
                "() => { const session = window.jupyterapp.shell.currentWidget?.sessionContext;"
                " return session?.isReady ? String(session.session?.kernel?.status) : 'no' }"
            )
        )

    def wait_ready(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.lab.wait(lambda: self.kernel_status() == "idle", "the kernel is idle", 60.0)

    def close(self) -> None:
        """End its kernel and close its tab, unsaved."""
        self.server.shut_down(self.path)
        self.dismiss()
        self.lab.page.evaluate("() => { window.jupyterapp.shell.currentWidget?.dispose() }")

    def dismiss(self) -> None:
        """Answer JupyterLab's dialogs (a kernel died) with their default button."""
        accept = self.lab.page.locator(".jp-Dialog .jp-mod-accept")
        while accept.count():
            accept.first.click()
            self.lab.page.wait_for_timeout(50)

    # ------------------------------------------------------------------ cells

    def cell(self, index: int) -> Locator:
        return self.node.locator(".jp-CodeCell").nth(index)

    def start(self, index: int) -> None:
        """Run a cell as a user does, and return while it runs."""
        self.cell(index).locator(".cm-content").click()
        self.lab.page.keyboard.press("Control+Enter")

    def prompt(self, index: int) -> str:
        """What stands beside a cell: "[ ]:", "[*]:" while it waits or runs, then "[5]:"."""
        return self.cell(index).locator(".jp-InputPrompt").inner_text()

    def is_running(self, index: int) -> bool:
        """Whether a cell waits or runs."""
        return "*" in self.prompt(index)

    def wait_done(self, index: int, seconds: float = 30.0, before: str = "") -> None:
        """Wait until a cell has its number; ``before`` is what a run before has left there."""
        begun = False

        def numbered() -> bool:
            nonlocal begun
            prompt = self.prompt(index)
            # A short run's "[*]" may not be seen, a restarted kernel's number be the same again.
            begun = begun or prompt != before
            return begun and re.search(r"\d", prompt) is not None

        self.lab.wait(numbered, f"cell {index} is done", seconds)

    def run(self, index: int, seconds: float = 30.0) -> None:
        """Run a cell to its end."""
        before = self.prompt(index)
        self.start(index)
        self.wait_done(index, seconds, before)

    def output(self, index: int) -> str:
        """The visible text of a cell's outputs."""
        return "".join(seen_texts(self.cell(index).locator(".jp-OutputArea").first))

    def panel(self, index: int = 0) -> Panel:
        """The panel in a cell's outputs."""
        return Panel(self, self.cell(index))

    def run_panel(self, index: int = 0, state: str = "running") -> Panel:
        """Run a cell and wait until its panel shows a state."""
        self.start(index)
        panel = self.panel(index)
        panel.wait_state(state)
        return panel


class Panel:
    """What a cell shows of a job."""

    def __init__(self, notebook: Notebook, cell: Locator) -> None:
        self.notebook = notebook
        self.node = cell.locator(".taskwidgets-panel")
        self.snapshot_node = cell.locator(".jp-OutputArea-output.jp-RenderedHTMLCommon")
        self.errors = cell.locator("[data-mime-type='application/vnd.jupyter.error']")
        self.bar = self.node.get_by_role("progressbar")
        self.status = self.node.get_by_role("status")
        self.fault = self.node.locator(".taskwidgets-fault")

    def button(self, name: str) -> Locator:
        return self.node.get_by_role("button", name=name, exact=True)

    def click(self, name: str) -> None:
        """Click a button when it can be clicked."""
        self.button(name).click(timeout=30_000)

    def is_enabled(self, name: str) -> bool:
        return self.button(name).is_enabled()

    @property
    def text(self) -> str:
        return self.node.inner_text()

    @property
    def snapshot(self) -> str:
        """The static output beside the widget."""
        return self.snapshot_node.inner_text()

    @property
    def state(self) -> str:
        """The state's word; "" while there is no panel."""
        words = seen_texts(self.node.locator(".taskwidgets-state"))
        return words[0].split()[-1] if len(words) == 1 and words[0] else ""

    @property
    def percent(self) -> int:
        """What the bar tells a screen reader."""
        return int(self.bar.get_attribute("aria-valuenow") or "-1")

    def wait_state(self, state: str, seconds: float = 30.0) -> None:
        def shown() -> bool:
            assert state == "failed" or self.state != "failed", self.text
            assert self.errors.count() == 0, self.errors.first.inner_text()
            return self.state == state

        self.notebook.lab.wait(shown, f"the panel says {state}", seconds)

    def wait_text(self, text: str) -> None:
        """The panel's parts arrive one by one: what a state implies may follow its word."""
        self.notebook.lab.wait(lambda: text in self.text, f"the panel says {text!r}")

    def wait_snapshot(self, text: str) -> None:
        """The static line is a message of its own, behind the panel's."""
        self.notebook.lab.wait(lambda: text in self.snapshot, f"the static line says {text!r}")

    def wait_enabled(self, *names: str) -> None:
        """Until these of the three buttons can be clicked, and no other."""

        def reached() -> bool:
            return tuple(name for name in BUTTONS if self.is_enabled(name)) == names

        self.notebook.lab.wait(reached, f"the buttons {names} can be clicked, and no other")

    def wait_percent(self, least: int, seconds: float = 20.0) -> None:
        self.notebook.lab.wait(lambda: self.percent >= least, f"{least} % are done", seconds)

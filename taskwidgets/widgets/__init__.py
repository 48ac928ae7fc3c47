"""What people see and click. Widgets look at jobs; jobs know nothing of widgets.

Importing this package imports no widget library: that waits for the first panel.
"""

from __future__ import annotations

from taskwidgets.widgets.viewer import NotebookViewer

__all__ = ["NotebookViewer"]

"""``python -m taskwidgets.cli``, where the command itself is not on the path."""

from taskwidgets.cli import main

main()

"""Compiles what is in C when the package is built, or installed for editing.

The package works without it, more slowly: so where there is no compiler, or not Python's headers,
that is told and no more.
"""

from __future__ import annotations

import contextlib
import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

MODULES = {
    "taskwidgets.tabular._record_ends": "taskwidgets/tabular/record_ends.c",
    "taskwidgets.transfers._csv_rows": "taskwidgets/transfers/csv_rows.c",
    "taskwidgets.transfers._binary_rows": "taskwidgets/transfers/binary_rows.c",
}


class CustomBuildHook(BuildHookInterface[Any]):
    """hatchling looks for this name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is made, also of the kind that an editable install is."""
        if self.target_name != "wheel":
            return
        try:
            compiled = compile_modules(Path(self.root))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - any failure means the same
            self.app.display_warning(f"nothing is compiled, transfers are slower: {error}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        if version != "editable":
            for path in compiled:
                build_data["force_include"][str(path)] = path.relative_to(self.root).as_posix()


def compile_modules(root: Path) -> list[Path]:
    """Compile the modules, each beside its source; where they are."""
    before = Path.cwd()
    os.chdir(root)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as on_exit:
        on_exit.callback(os.chdir, before)
        extensions = [
            Extension(module, [source], py_limited_api=True, extra_compile_args=["-O3"])
            for module, source in MODULES.items()
        ]
        packages = sorted({module.rpartition(".")[0] for module in MODULES})
        command = build_ext(Distribution({"packages": packages, "ext_modules": extensions}))
        command.inplace = True
        command.build_temp = command.build_lib = scratch
        command.ensure_finalized()
        command.run()
        return [root / command.get_ext_fullpath(module) for module in MODULES]

"""Compiles taskwidgets/transfers/binary_rows.c when the package is built or installed for editing.

The package works without it, at the speed of COPY's text: so where there is no compiler, or not
Python's headers, that is told and no more.
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

SOURCE = "taskwidgets/transfers/binary_rows.c"
MODULE = "taskwidgets.transfers._binary_rows"


class CustomBuildHook(BuildHookInterface[Any]):
    """hatchling looks for this name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is made, also of the kind that an editable install is."""
        if self.target_name != "wheel":
            return
        try:
            compiled = compile_module(Path(self.root))
        except BaseException as error:  # noqa: BLE001 - setuptools ends with SystemExit, among others
            if isinstance(error, KeyboardInterrupt):
                raise
            self.app.display_warning(f"{SOURCE} is not compiled, uploads are slower: {error}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        if version != "editable":
            place = compiled.relative_to(self.root).as_posix()
            build_data["force_include"][str(compiled)] = place


def compile_module(root: Path) -> Path:
    """Compile the module in its place; where that is."""
    before = Path.cwd()
    os.chdir(root)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as on_exit:
        on_exit.callback(os.chdir, before)
        command = build_ext(
            Distribution(
                {
                    "packages": ["taskwidgets", "taskwidgets.transfers"],
                    "ext_modules": [
                        Extension(MODULE, [SOURCE], py_limited_api=True, extra_compile_args=["-O3"])
                    ],
                }
            )
        )
        command.inplace = True
        command.build_temp = command.build_lib = scratch
        command.ensure_finalized()
        command.run()
        return root / command.get_ext_fullpath(MODULE)

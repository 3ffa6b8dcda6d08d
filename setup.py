"""Puts the notebooks, the sample photos and the sweeps into the wheel; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

COMPANIONS = ("notebooks", "sample_images", "sweeps")


class WithCompanions(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in COMPANIONS:
                target = Path(self.build_lib) / "nbhelpers" / "companions" / name
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(name, target, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))


setup(cmdclass={"build_py": WithCompanions})

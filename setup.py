"""Takes the study's records and notebooks into the wheel, where `astraios` finds them from any folder.

Everything else stands in pyproject.toml. An editable install reads what lies in the checkout.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

STUDY = Path("astraios_analysis", "study")


class BuildPy(build_py):
    """Builds the packages and puts what they show beside them."""

    def run(self) -> None:
        """Build; a folder that an earlier build left is made anew."""
        super().run()
        if self.editable_mode:
            return
        study = Path(self.build_lib, STUDY)
        shutil.rmtree(study, ignore_errors=True)
        for folder in ("data/released", "data/runs", "data/examples", "notebooks"):
            shutil.copytree(folder, study / folder, ignore=shutil.ignore_patterns(".*", "*.py", "__pycache__"))
        shutil.copyfile("data/README.md", study / "data" / "README.md")


setup(cmdclass={"build_py": BuildPy})

"""The package as people install it: a wheel, in an environment of its own, far from the repository.

    python tools/wheel.py

builds the wheel, installs it into a new environment, and there, in an empty folder, copies the notebooks, loads a
bundled network, reads a sample photo, and runs a notebook.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOOK = """
from pathlib import Path
import nbhelpers
from nbhelpers import edge, images, models
assert Path("repository").read_text() not in nbhelpers.__file__, nbhelpers.__file__
photo = images.read(edge.companion("sample_images") / "cat.jpg", 64)
print("logits of the cat:", tuple(models.load("minivgg_robust")(photo[None] if photo.ndim == 3 else photo).shape))
"""


def main(options: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="nbhelpers-wheel-") as scratch:
        work = Path(scratch) / "work"
        work.mkdir()
        (work / "repository").write_text(str(ROOT))
        subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", scratch, str(ROOT)], check=True)
        wheel = next(Path(scratch).glob("*.whl"))
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        venv.create(Path(scratch) / "venv", with_pip=True)
        python = Path(scratch) / "venv" / "bin" / "python"
        command = python.with_name("nbhelpers")
        subprocess.run([python, "-m", "pip", "install", "-q", *options, str(wheel)], check=True)
        subprocess.run([python, "-c", LOOK], cwd=work, check=True)
        subprocess.run([command, "notebooks", "course"], cwd=work, check=True)
        subprocess.run([command, "run", "course/notebooks/02_testing_interpretations.ipynb"], cwd=work, check=True)
        print("the wheel is whole")


if __name__ == "__main__":
    main(sys.argv[1:])

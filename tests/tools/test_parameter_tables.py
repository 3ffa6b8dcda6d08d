"""The page of parameters says what the code says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_parameters_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools" / "parameter_tables.py"), "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr

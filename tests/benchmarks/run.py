"""Run every benchmark here and print its table: `make bench`, or `python tests/benchmarks/run.py NAME ...`.

Each `bench_NAME.py` has a `main()` that measures all contenders in one run, on the same work, and prints ratios.
"""

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main(wanted: list[str]) -> None:
    sys.path.insert(0, str(FOLDER))  # processes that a benchmark starts find it there, too
    known = {path.stem.removeprefix("bench_"): path for path in sorted(FOLDER.glob("bench_*.py"))}
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise SystemExit(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(known)}")
    for name in wanted or known:
        print(f"\n## {name.replace('_', ' ')}\n", flush=True)
        importlib.import_module(f"bench_{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])

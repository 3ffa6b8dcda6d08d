"""Peak memory of the running process."""

import resource
from pathlib import Path


def peak_megabytes() -> float:
    """In MB; what Linux tells through `getrusage` would include the parent process, of which this one was a copy."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2

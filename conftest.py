"""pytest settings for notebooks and tests alike."""

from typing import Any


def pytest_configure() -> None:
    """Let nbval try again when a kernel does not come up: two that start at once can pick the same port."""
    try:
        from nbval import kernel
    except ImportError:
        return
    start_once = kernel.start_new_kernel

    def start(*arguments: Any, **options: Any) -> Any:
        for _ in range(2):
            try:
                return start_once(*arguments, **options)
            except RuntimeError:
                pass
        return start_once(*arguments, **options)

    kernel.start_new_kernel = start

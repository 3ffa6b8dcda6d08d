"""Notebooks as documents: their parameters, their pictures, what went wrong in them.

A notebook itself needs `results_folder` and `record`. Five modules are for everybody: `arguments` (parameters as they
come from outside), `execution` (one notebook through papermill), `batch` (several, with a page of the results),
`reading` (for readers without Jupyter) and `student` (copies without the solutions).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["arguments", "batch", "execution", "reading", "student"],
    submod_attrs={
        "documents": [
            "RECORDED",
            "RESULTS_VARIABLE",
            "WIDGET_STATE",
            "WIDGET_VIEW",
            "Parameter",
            "clean",
            "errors",
            "machine_paths",
            "parameters",
            "read",
            "record",
            "results_folder",
            "show_statically",
            "tagged",
            "texts",
            "title",
            "write",
        ]
    },
)

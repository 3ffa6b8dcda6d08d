"""Notebooks as documents: their parameters, their pictures, what went wrong in them.

A notebook itself needs `results_folder` and `record`. Three modules are for everybody: `arguments` (parameters as they
come from outside), `execution` (one notebook through papermill) and `batch` (several, with a page of the results).
"""

from nbhelpers.notebooks.documents import (
    RECORDED,
    RESULTS_VARIABLE,
    WIDGET_STATE,
    WIDGET_VIEW,
    Parameter,
    clean,
    errors,
    machine_paths,
    parameters,
    read,
    record,
    results_folder,
    show_statically,
    tagged,
    texts,
    title,
    write,
    write_text,
)

__all__ = [
    "RECORDED",
    "RESULTS_VARIABLE",
    "WIDGET_STATE",
    "WIDGET_VIEW",
    "Parameter",
    "arguments",
    "batch",
    "clean",
    "errors",
    "execution",
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
    "write_text",
]

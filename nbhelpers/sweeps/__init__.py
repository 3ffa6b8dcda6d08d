"""Sweeps: the same notebook with many parameters, on one machine or on a cluster.

    python -m nbhelpers sweep sweeps/layer.yaml --workers 4

`plan` reads the YAML file (`values`) into jobs, each named by a hash of what it computes. `engine` sends them to the
workers of a Dask cluster. On a worker, `work` looks after one job at a time: it starts a process for it (`processes`,
`fork_server`), in which `job` runs papermill and a kernel (`kernels`); it stops the job when its time or memory is up,
and hands what came out to the `store`, where a job's folder appears when it is whole. `manifest` keeps the record of
every job; the folders are the truth.
"""

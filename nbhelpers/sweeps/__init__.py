"""Sweeps: the same notebook with many parameters, on one machine or on a cluster.

    nbhelpers sweep sweeps/layer.yaml --workers 4

Before: `plan` reads a YAML file (`values`) into jobs, each named by a hash of what it computes. `store` is the place
for results, where a job's folder appears when it is whole; `manifest` the record of every job, with a lock that keeps
a second sweep out; `record` the three together.

The driver: `cli` asks, `engine` submits and takes in what happens, `clusters` finds or makes the Dask cluster.

On a worker: `tasks` is what Dask calls, `work` does one job: it starts a process for it (`processes`, `fork_server`,
with the notebook's `imports`), ends it when its time or memory is up, and hands what came out to the store.

In that process: `job` runs papermill, and `kernels` the kernel.
"""

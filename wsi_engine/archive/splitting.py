"""Whose processes one slide is split over: this machine's, or those of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from wsi_engine.engine.workers.dask import check_one, connect, import_distributed, start
from wsi_engine.errors import ClusterError

LONGEST_START_S = 600
"""Longest wait for the first worker of a cluster that is started: jobs wait in queues."""


@contextmanager
def split_options(
    jobs: int, scheduler: str | None = None, cluster: str | None = None
) -> Iterator[dict[str, Any]]:
    """Give the options of `wsi_engine.run` that split a slide.

    Parameters
    ----------
    jobs
        Number of processes on this machine, or of workers of a cluster that is started.
    scheduler
        Address of a Dask scheduler, such as ``tcp://host:8786``, all of whose workers are used
        instead; one block at a time for each of their threads.
    cluster
        Kind of cluster to start workers on instead: ``slurm``, ``lsf`` or ``kubernetes``.

    Raises
    ------
    SettingsError
        When both are given.
    ClusterError
        When Dask is not installed, the scheduler does not answer, or there are no workers.
    """
    check_one(scheduler, cluster)
    if scheduler is None and cluster is None:
        yield {"jobs": jobs}
        return
    with ExitStack() as ended:
        if scheduler is not None:
            client = ended.enter_context(connect(scheduler))
        else:
            assert cluster is not None
            started = ended.enter_context(start(cluster, jobs))
            client = import_distributed().Client(started, set_as_default=False)
            ended.enter_context(client)
            _await_worker(client, cluster)
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise ClusterError(f"the Dask scheduler at {scheduler} has no workers: start some")
        yield {"jobs": max(jobs, threads), "executor": client.get_executor()}


def _await_worker(client: Any, kind: str) -> None:
    try:
        client.wait_for_workers(1, timeout=LONGEST_START_S)
    except TimeoutError:
        raise ClusterError(f"no worker of the {kind} cluster came in {LONGEST_START_S} s") from None

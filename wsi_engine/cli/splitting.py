"""Whose processes one slide is split over: this machine's, or those of a Dask scheduler."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wsi_engine.errors import WorkerError

_PATIENCE_S = 10


@contextmanager
def split_options(jobs: int, scheduler: str | None) -> Iterator[dict[str, Any]]:
    """Give the options of `wsi_engine.run` that split a slide.

    Parameters
    ----------
    jobs
        Number of processes on this machine.
    scheduler
        Address of a Dask scheduler, such as ``tcp://host:8786``, all of whose workers are used
        instead; one block at a time for each of their threads.

    Raises
    ------
    WorkerError
        When Dask is not installed, the scheduler does not answer, or has no workers.
    """
    if scheduler is None:
        yield {"jobs": jobs}
        return
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise WorkerError("Dask is not installed: pip install 'wsi-engine[cluster]'") from None
    try:
        client = distributed.Client(scheduler, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise WorkerError(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise WorkerError(f"the Dask scheduler at {scheduler} has no workers: start some")
        yield {"jobs": threads, "executor": client.get_executor()}

"""Dask: a scheduler that runs already, or a cluster that its own configuration describes."""

from __future__ import annotations

import importlib
from typing import Any

from wsi_engine.errors import ClusterError, SettingsError
from wsi_engine.installing import install_command

KINDS = {
    "slurm": ("dask_jobqueue", "SLURMCluster", "dask-jobqueue"),
    "lsf": ("dask_jobqueue", "LSFCluster", "dask-jobqueue"),
    "kubernetes": ("dask_kubernetes.operator", "KubeCluster", "dask-kubernetes"),
}
"""Kinds of cluster by name: module, class, and package to install."""

PATIENCE_S = 10


def check_one(scheduler: str | None, cluster: str | None) -> None:
    """Raise `SettingsError` if both a scheduler and a cluster are given."""
    if scheduler is not None and cluster is not None:
        raise SettingsError("--scheduler and --cluster exclude each other: give one of them")


def import_distributed() -> Any:
    """Return Dask's package for many processes.

    Raises
    ------
    ClusterError
        When it is not installed.
    """
    return _import("distributed", install_command("cluster"))


def connect(address: str) -> Any:
    """Return a client of a scheduler that runs already.

    Raises
    ------
    ClusterError
        When it does not answer, or Dask is not installed.
    """
    distributed = import_distributed()
    try:
        return distributed.Client(address, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ClusterError(f"no Dask scheduler answers at {address}: {error}") from None


def start(kind: str, workers: int) -> Any:
    """Start a cluster with some workers, as Dask's configuration files describe it.

    Raises
    ------
    ClusterError
        When there is no such kind, its package is not installed, or it cannot be started.
    """
    if kind not in KINDS:
        raise ClusterError(f"unknown kind of cluster {kind!r}: there are {', '.join(KINDS)}")
    module, name, package = KINDS[kind]
    import_distributed()
    make = getattr(_import(module, f"pip install {package}"), name)
    try:
        cluster = make()
        cluster.scale(workers)
    # Whatever the cluster's own tools say.
    except Exception as error:
        raise ClusterError(
            f"the {kind} cluster cannot be started ({error}): see the configuration of {package}"
        ) from None
    return cluster


def _import(module: str, advice: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ClusterError(f"{module.split('.')[0]} is not installed: {advice}") from None

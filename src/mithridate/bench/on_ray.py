"""The cells of a matrix as tasks of a Ray cluster."""

import math
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mithridate.bench.cells import BenchCell
from mithridate.bench.matrix import Finished, Matrix, Outcome, outcome
from mithridate.errors import InputError, installing

_HERE = "local"
_MEND = "check --ray-address, such as 10.0.0.1:6379"
_PATIENCE = 3.0  # seconds
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
"""What a gRPC server, which a Ray cluster's is, answers with settings of its own (RFC 9113)."""


@dataclass(frozen=True)
class Resources:
    """What one cell is to have of the cluster.

    Attributes:
        cpus: Processor cores, and threads of its computations.
        gpus: Accelerators.
        memory: Bytes; ``None`` asks for none in particular.
    """

    cpus: int = 1
    gpus: float = 0.0
    memory: int | None = None


def run_on_ray(
    matrix: Matrix,
    cells: Sequence[BenchCell],
    finished: Finished,
    *,
    address: str | None = None,
    resources: Resources = Resources(),
) -> None:
    """Run cells on a cluster. The journal is written here, each line as its cell ends.

    The folder of the results must be one that all nodes see: models that cells share lie in it.

    Args:
        matrix: The matrix.
        cells: What to run.
        finished: Told of every cell that ends.
        address: An existing cluster's; ``None`` starts one on this machine.
        resources: What each cell is to have.

    Raises:
        InputError: Ray is not installed, no cluster answers, or none has what a cell is to have.
    """
    try:
        import ray
    except ImportError:
        mend = installing("ray")
        raise InputError("--backend ray needs Ray", mend=mend) from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    started = not ray.is_initialized()
    if started:
        address = address or os.environ.get("RAY_ADDRESS") or _HERE
        if address == _HERE:  # told before it is started
            _check([{"CPU": os.cpu_count() or 1, "GPU": math.inf, "memory": math.inf}], resources)
        _check_address(address)
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            what = f"no Ray cluster answers: {reason}"
            raise InputError(what, where=address, mend=_MEND) from None
    try:
        _check([node["Resources"] for node in ray.nodes() if node["Alive"]], resources)
        options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
        if resources.memory is not None:
            options["memory"] = resources.memory
        matrix.note_references()
        # A node that dies takes no cell with it: the task is run anew elsewhere.
        task = ray.remote(**options, max_retries=2)(_on_worker)
        waiting = {
            task.remote(cell, str(matrix.kept.resolve()), matrix.command, resources.cpus): cell
            for cell in cells
            if not matrix.is_done(cell)
        }
        while waiting:
            [ready], _ = ray.wait(list(waiting), num_returns=1)
            cell = waiting.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayError as error:
                result = Outcome(None, f"{type(error).__name__}: {error}")
            matrix.settle(cell, result, finished)
    finally:
        if started:
            with suppress(Exception):
                ray.shutdown()


def _on_worker(cell: BenchCell, kept: str, command: str, threads: int) -> Outcome:
    """Run a cell in a worker's process."""
    import torch

    torch.set_num_threads(threads)
    return outcome(cell, Path(kept), command)


def _check_address(address: str) -> None:
    """Refuse an address behind which nothing listens, for which Ray itself waits five minutes.

    Raises:
        InputError: Nothing answers there within some seconds.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto" or "local", or what Ray refuses by itself
    try:
        with socket.create_connection((host, int(port)), _PATIENCE) as connection:
            connection.settimeout(_PATIENCE)
            if "RAY_USE_TLS" not in os.environ:
                connection.sendall(_HTTP2)
                if connection.recv(len(_SETTINGS))[3:4] != _SETTINGS[3:4]:
                    what = "what answers there is no Ray cluster"
                    raise InputError(what, where=address, mend=_MEND)
    except (OSError, OverflowError) as error:
        what = f"no Ray cluster answers ({error})"
        raise InputError(what, where=address, mend=_MEND) from None


def _check(nodes: Sequence[dict[str, float]], resources: Resources) -> None:
    """Refuse to wait for ever for what no node of a cluster has: a cell runs on one node.

    Raises:
        InputError: The largest has less than one cell is to have.
    """
    asked = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory or 0}
    for name, amount in asked.items():
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if amount > most:
            what = f"a cell is to have {amount:g} {name}, and the largest node has {most:g}"
            raise InputError(what, mend="ask for less with --cell-cpus, --cell-gpus, --cell-memory")
    if not any(all(node.get(name, 0.0) >= asked[name] for name in asked) for node in nodes):
        what = "no node has all that one cell is to have"
        raise InputError(what, mend="ask for less with --cell-cpus, --cell-gpus, --cell-memory")

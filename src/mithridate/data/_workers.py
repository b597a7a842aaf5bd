"""A function applied to many tasks by several processes, results in the order of the tasks.

`concurrent.futures` waits for running tasks when one has failed, and `multiprocessing.Pool` waits
for ever when a worker was killed; here the first failure of either kind ends all workers at once.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

from mithridate.errors import MithridateError

T = TypeVar("T")
R = TypeVar("R")


def in_processes(function: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[R]:
    """Yield ``function(task)`` for every task, in the order of the tasks.

    Args:
        function: Picklable, as are its results; it runs in a fresh interpreter (spawn), which
            unlike fork is safe beside threads.
        tasks: What to apply it to.
        workers: Processes to run; with one, or one task, all happens in this process.

    Yields:
        The results, each as soon as it and all before it are there.

    Raises:
        MithridateError: A worker died, or the function raised it.
    """
    if min(workers, len(tasks)) <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    processes: list[Any] = []
    lines: list[Connection] = []
    try:
        for _ in range(min(workers, len(tasks))):
            ours, theirs = context.Pipe()
            lines.append(ours)
            process = context.Process(target=_serve, args=(theirs, function), daemon=True)
            process.start()
            theirs.close()  # else the death of the worker would not end the line
            processes.append(process)
        yield from _dispatch(lines, tasks)
    finally:
        for process in processes:
            process.kill()  # they hold nothing that wants an orderly end
        for process in processes:
            process.join()
        for line in lines:
            line.close()


def _dispatch(lines: list[Connection], tasks: Sequence[T]) -> Iterator[Any]:
    todo = iter(enumerate(tasks))
    at_work: dict[Connection, int] = {}
    finished: dict[int, Any] = {}
    for line in lines:
        _assign(line, todo, at_work)
    for place in range(len(tasks)):
        while place not in finished:
            for ready in wait(list(at_work)):
                line = cast(Connection, ready)  # `wait` could also watch sockets
                finished[at_work.pop(line)] = _receive(line)
                _assign(line, todo, at_work)
        yield finished.pop(place)


def _assign(
    line: Connection, todo: Iterator[tuple[int, T]], at_work: dict[Connection, int]
) -> None:
    if (task := next(todo, None)) is None:
        return
    try:
        line.send(task[1])
    except OSError:
        raise _died() from None
    at_work[line] = task[0]


def _receive(line: Connection) -> Any:
    try:
        succeeded, outcome = line.recv()
    except (EOFError, OSError):
        raise _died() from None
    if not succeeded:
        raise outcome
    return outcome


def _died() -> MithridateError:
    return MithridateError(
        "a worker process was killed, perhaps because memory ran out",
        mend="start again, with fewer --workers where memory is short",
    )


def _serve(line: Connection, function: Callable[[Any], Any]) -> None:
    """Answer tasks until the line ends, as it does when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    while True:
        try:
            task = line.recv()
        except EOFError:
            return
        try:
            answer = True, function(task)
        except BaseException as error:
            answer = False, _portable(error)
        line.send(answer)


def _portable(error: BaseException) -> BaseException:
    """Return an error of the user's or the system's as it is, a bug of ours as its traceback."""
    if isinstance(error, MithridateError | OSError):
        return error
    return RuntimeError(f"in a worker process:\n{traceback.format_exc()}")

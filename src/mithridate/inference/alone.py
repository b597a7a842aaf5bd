"""One thread at a time in a model: it is read by layers that compute another way for a while."""

from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

_LOCKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_MAKING = Lock()


def alone(model: Any) -> Any:
    """Return the lock of a model, whatever adapter it is wrapped in; to be held while it runs.

    A server answers requests in threads of their own, and two of them in one model would take the
    replaced layers from each other: answers would be wrong, and nothing would say so.
    """
    head = model.get_output_embeddings()
    with _MAKING:
        return _LOCKS.setdefault(model if head is None else head, RLock())

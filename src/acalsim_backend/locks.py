"""Locks that a fork waits for.

A thread that holds a lock does not exist in a forked child, and what it was changing stays half done there. So a fork
takes all of these locks first, from the outermost kind to the innermost, and both processes give them back: the child
finds everything whole, and nothing locked.
"""

from __future__ import annotations

import enum
import os
import threading
import weakref
from typing import Any


class Rank(enum.IntEnum):
    """Which lock a thread that needs several takes first."""

    MODEL = 0
    BACKEND = 1
    SESSION = 2
    DEVICE = 3
    TABLE = 4


_locks: weakref.WeakKeyDictionary[Any, tuple[Rank, int]] = weakref.WeakKeyDictionary()
_register = threading.Lock()
_held: list[Any] = []


def make_lock(rank: Rank) -> threading.RLock:
    """A re-entrant lock."""
    lock = threading.RLock()
    with _register:
        _locks[lock] = rank, len(_locks)
    return lock


def make_condition() -> threading.Condition:
    """A condition whose lock is that of a model."""
    return threading.Condition(make_lock(Rank.MODEL))


def _take_all() -> None:
    with _register:
        _held[:] = sorted(_locks, key=lambda lock: _locks[lock])
    for lock in _held:
        lock.acquire()
    _register.acquire()


def _give_back() -> None:
    _register.release()
    for lock in reversed(_held):
        lock.release()
    _held.clear()


os.register_at_fork(before=_take_all, after_in_parent=_give_back, after_in_child=_give_back)

"""Locks that a fork waits for.

A thread that holds a lock does not exist in a forked child, and what it was changing stays half done there. So a fork
takes all of these locks first, from the outermost kind to the innermost, and both processes give them back: the child
finds everything whole, and nothing locked.
"""

from __future__ import annotations

import enum
import itertools
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
_numbers = itertools.count()
_register = threading.Lock()
_one_fork = threading.Lock()
_held: list[Any] = []


def make_lock(rank: Rank) -> threading.RLock:
    """A re-entrant lock."""
    lock = threading.RLock()
    with _register:
        _locks[lock] = rank, next(_numbers)
    return lock


def make_condition() -> threading.Condition:
    """A condition whose lock is that of a model."""
    return threading.Condition(make_lock(Rank.MODEL))


def _take_all() -> None:
    _one_fork.acquire()
    while True:
        _register.acquire()
        new = sorted(set(_locks) - set(_held), key=lambda lock: _locks[lock])
        if not new:
            return  # nobody makes another one now
        _register.release()
        for lock in new:
            lock.acquire()
            _held.append(lock)


def _give_back() -> None:
    _register.release()
    while _held:
        _held.pop().release()
    _one_fork.release()


os.register_at_fork(before=_take_all, after_in_parent=_give_back, after_in_child=_give_back)

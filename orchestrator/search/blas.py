"""BLAS with one thread, as a sampler's small matrices want it.

With more threads, matrices of some hundred rows take longer, many times longer beside a training
that uses the cores; and the sums of another number of threads may draw another configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController

# The limit is the whole process's: of two that set it at a time, one would keep the other's.
_lock = Lock()


@cache
def _libraries() -> ThreadpoolController:
    """Those that are loaded at the first use: NumPy's and SciPy's are."""
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS uses one thread in this process, then as many as before. Another thread waits meanwhile.

    OpenBLAS heeds the first thread of a process that sets the number; from others it has no effect.

    Example::

        with one_blas_thread():
            scipy.linalg.cholesky(covariance)
    """
    with _lock, _libraries().limit(limits=1, user_api="blas"):
        yield

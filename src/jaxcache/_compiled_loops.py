"""What numba makes of the slow loops of the bound and the curves; imported only where numba is."""

from numba import njit

from ._curves import stack_bytes
from ._optimum import pack_stays

pack = njit(cache=True, nogil=True)(pack_stays)
stack = njit(cache=True, nogil=True)(stack_bytes)

"""What numba makes of the slow loop of the optimum; imported only where numba is."""

from numba import njit

from ._optimum import pack_stays

pack = njit(cache=True, nogil=True)(pack_stays)

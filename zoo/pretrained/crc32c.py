"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, fast enough for gigabytes.

A checksum is linear: numpy takes many stretches of the bytes side by side, and what each gives is
moved past the bytes that follow it by a matrix of bits, two neighbours at a time.
"""

import numpy as np

_POLYNOMIAL = 0x82F63B78  # its bits from the lowest power up
_MASK_DELTA = 0xA282EAD8
_FEW = 1024  # bytes that are not worth more than a loop


def crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """The checksum of some bytes."""
    flat = np.frombuffer(data, np.uint8)
    if len(flat) < _FEW:
        state = 0xFFFFFFFF
        for byte in flat.tolist():
            state = int(_TABLE[(state ^ byte) & 0xFF]) ^ (state >> 8)
        return state ^ 0xFFFFFFFF
    lanes = 1 << (len(flat).bit_length() // 2)
    length = -(-len(flat) // lanes)
    # Zeros in front of everything leave a register of zeros as it is.
    padded = np.zeros(lanes * length, np.uint8)
    padded[-len(flat) :] = flat
    padded[-len(flat) :][:4] ^= 0xFF  # the register begins with ones instead
    columns = np.ascontiguousarray(padded.reshape(lanes, length).T)
    states = np.zeros(lanes, np.uint32)
    for column in columns:
        states = _TABLE[(states ^ column) & np.uint32(0xFF)] ^ (states >> np.uint32(8))
    past = _zero_bytes(length)
    while len(states) > 1:
        states = _times(past, states[::2]) ^ states[1::2]
        past = _times(past, past)
    return int(states[0]) ^ 0xFFFFFFFF


def masked(data: bytes | memoryview | np.ndarray) -> int:
    """The checksum as TensorFlow and LevelDB store it: rotated, and a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _make_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


def _times(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """A matrix of bits, 32 columns as numbers, times many vectors of bits."""
    out = np.zeros_like(vectors)
    for bit, column in enumerate(matrix):
        out ^= np.where(vectors >> np.uint32(bit) & np.uint32(1), column, np.uint32(0))
    return out


def _zero_bytes(count: int) -> np.ndarray:
    """The matrix that moves a register past so many bytes of zeros."""
    units = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = _TABLE[units & 0xFF] ^ (units >> np.uint32(8))
    found = units
    while count:
        if count & 1:
            found = _times(power, found)
        power, count = _times(power, power), count >> 1
    return found


_TABLE = _make_table()

"""LevelDB's tables of sorted keys, which TensorFlow keeps the index of a checkpoint in.

A file is blocks of entries, an index of the blocks, and a footer of 48 bytes that says where the
index lies. A key of a block is written as what it shares with the one before it, and the rest;
each block is followed by how it is compressed and by its checksum. Nothing in here trusts a number
of the file: a `ValueError` says what does not fit.
"""

from collections.abc import Iterator

from zoo.pretrained.crc32c import masked

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5  # the kind of compression, a byte, and the checksum
_PLAIN, _SNAPPY = 0, 1
_MOST = 2**28  # bytes of a block once it is unpacked


class Reader:
    """Numbers and bytes one after the other; a `ValueError` past the end."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        """So many bytes."""
        if count > len(self.data) - self.at:
            raise ValueError(f"{count} bytes are asked for where {len(self.data) - self.at} are")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        """A number below 2^64, seven bits a byte, the lowest first."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
        raise ValueError("a number does not end")

    def fixed(self, count: int) -> int:
        """A number of so many bytes, the lowest first."""
        return int.from_bytes(self.take(count), "little")


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All entries of a table, in the order of the keys.

    Raises:
      ValueError: it is no table, is damaged, or is compressed in a way that is not known here.
    """
    if len(data) < _FOOTER or data[-len(MAGIC) :] != MAGIC:
        raise ValueError("it does not end as such a table does")
    footer = Reader(data[-_FOOTER:])
    footer.varint(), footer.varint()  # where the filters are, of which there are none
    found: dict[bytes, bytes] = {}
    for _, handle in _entries(_block(data, footer)):
        for key, value in _entries(_block(data, Reader(handle))):
            if found and key <= next(reversed(found)):
                raise ValueError(f"the key {key!r} is out of order")
            found[key] = value
    return found


def _block(data: bytes, handle: Reader) -> bytes:
    """What lies at a handle, two numbers, unpacked and checked."""
    start, size = handle.varint(), handle.varint()
    if start + size + _TRAILER > len(data) - _FOOTER:
        raise ValueError(f"a block of {size} bytes at {start} is past the end")
    body, kind = data[start : start + size], data[start + size]
    stored = int.from_bytes(data[start + size + 1 : start + size + _TRAILER], "little")
    if stored != masked(data[start : start + size + 1]):
        raise ValueError(f"the checksum of the block at {start} is wrong")
    if kind == _SNAPPY:
        return unsnap(body)
    if kind != _PLAIN:
        raise ValueError(f"the block at {start} is compressed in a way {kind} that is not known")
    return body


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; the places where a key is written whole, after them, are not needed."""
    if len(block) < 4:
        raise ValueError("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes has {restarts} restarts")
    reader, key = Reader(block[:end]), b""
    while reader:
        shared, rest, size = reader.varint(), reader.varint(), reader.varint()
        if shared > len(key):
            raise ValueError(f"a key shares {shared} bytes with one of {len(key)}")
        key = key[:shared] + reader.take(rest)
        yield key, reader.take(size)


def unsnap(data: bytes) -> bytes:
    """Unpacks Snappy's raw format.

    Raises:
      ValueError: it is damaged.
    """
    reader = Reader(data)
    size = reader.varint()
    if size > _MOST:
        raise ValueError(f"a block of {size} bytes is too large")
    out = bytearray()
    while reader:
        tag = reader.fixed(1)
        kind, count = tag & 3, tag >> 2
        if kind == 0:  # bytes as they are
            if count >= 60:
                count = reader.fixed(count - 59)
            out += reader.take(count + 1)
        else:  # a copy of earlier ones, which may reach into itself
            if kind == 1:
                count, back = 4 + (count & 7), tag >> 5 << 8 | reader.fixed(1)
            else:
                count, back = count + 1, reader.fixed(2 if kind == 2 else 4)
            if not 0 < back <= len(out):
                raise ValueError(f"a copy from {back} bytes back where {len(out)} are")
            piece = bytes(out[-back:][:count])
            out += (piece * -(-count // len(piece)))[:count]
        if len(out) > size:
            break
    if len(out) != size:
        raise ValueError(f"a block of {size} bytes unpacks to {len(out)}")
    return bytes(out)

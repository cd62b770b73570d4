"""Writes TensorFlow's checkpoints as its own writer lays them out, from the format's description.

Independent of what reads them: checksums a bit at a time, protocol buffers by hand.
"""

from pathlib import Path

import ml_dtypes
import numpy as np

TYPES = {
    np.dtype(np.float32): 1, np.dtype(np.int64): 9, np.dtype(ml_dtypes.bfloat16): 14,
    np.dtype(np.float16): 19,
}  # fmt: skip


def slow_crc32c(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = slow_crc32c(data)
    rotated = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
    return ((rotated + 0xA282EAD8) % 2**32).to_bytes(4, "little")


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    return varint(number << 3 | 2) + varint(len(value)) + value


def snap(data: bytes) -> bytes:
    """Snappy: runs of one byte become copies that reach into themselves, the rest literals."""
    out, at = varint(len(data)), 0
    while at < len(data):
        run = 1
        while run < 64 and at + run < len(data) and data[at + run] == data[at]:
            run += 1
        if run > 8:
            out += bytes([0, data[at]])  # one literal
            out += bytes([(run - 2) << 2 | 2, 1, 0])  # run - 1 bytes from one back
            at += run
            continue
        part = data[at : at + 70]  # longer than a tag holds by itself
        out += bytes([60 << 2, len(part) - 1]) + part
        at += len(part)
    return out


def block_of(entries: list[tuple[bytes, bytes]], restart_every: int) -> bytes:
    out, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % restart_every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    places = [*restarts, len(restarts)] if entries else [0, 1]
    return out + b"".join(place.to_bytes(4, "little") for place in places)


def write_table(entries: dict[bytes, bytes], *, block_size: int = 400, snappy: bool = False):
    out, index = b"", []

    def put(body: bytes) -> bytes:
        nonlocal out
        kind = b"\1" if snappy else b"\0"
        body = snap(body) if snappy else body
        handle = varint(len(out)) + varint(len(body))
        out += body + kind + masked(body + kind)
        return handle

    part: list[tuple[bytes, bytes]] = []
    for key in sorted(entries):
        part.append((key, entries[key]))
        if sum(len(k) + len(v) for k, v in part) > block_size:
            index.append((key, put(block_of(part, 16))))
            part = []
    if part:
        index.append((part[-1][0] + b"~", put(block_of(part, 16))))
    meta = put(block_of([], 16))
    footer = meta + put(block_of(index, 1))
    return out + footer.ljust(40, b"\0") + 0xDB4775248B80FB57.to_bytes(8, "little")


def write_bundle(
    prefix: Path, arrays: dict[str, np.ndarray], *, shards: int = 1, snappy: bool = False
) -> None:
    """`PREFIX.index` and `PREFIX.data-...`; arrays go to the shards in turns."""
    entries = {b"": field(1, shards) + field(3, field(1, 1))}
    data = [b""] * shards
    for i, name in enumerate(sorted(arrays)):
        array, shard = arrays[name], i % shards
        raw = array.tobytes()
        shape = b"".join(field(2, field(1, size)) for size in array.shape)
        entries[name.encode()] = (
            field(1, TYPES[array.dtype])
            + field(2, shape)
            + field(3, shard)
            + field(4, len(data[shard]))
            + field(5, len(raw))
            + bytes([6 << 3 | 5])
            + masked(raw)
        )
        data[shard] += raw
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(write_table(entries, snappy=snappy))
    for shard, raw in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(raw)

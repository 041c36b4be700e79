"""Ways to break a file: anywhere, and in the fields of its format."""

import io
import re
import struct
import zipfile
import zlib

import numpy as np

EXTREMES = (0, 1, 2, 3, 7, 15, 16, 127, 128, 255, 4096, 16383, 32768, 65535, 10**8, 2**31 - 1, 2**31, 2**32 - 1,
            2**63 - 1, 2**64 - 1)
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"gAMA", b"pHYs")


def broken(rng: np.random.Generator, name: str, files: dict[str, bytes]) -> bytes:
    """Return ``files[name]`` with one, two or four faults."""
    data = files[name]
    by_suffix = {"png": _png, "tif": _tiff, "safetensors": _safetensors, "pth": _zip, "zip": _zip}
    shaped = by_suffix.get(name.rsplit(".", 1)[1])
    for _ in range(rng.choice([1, 2, 4], p=[0.6, 0.3, 0.1])):
        if shaped and rng.random() < 0.6:
            data = shaped(rng, data)
        else:
            other = files[str(rng.choice(list(files)))]
            data = (_bytes, _field, _cut, _splice)[rng.choice(4, p=[0.4, 0.4, 0.1, 0.1])](rng, data, other)
    return data


def _place(rng: np.random.Generator, length: int) -> int:
    """Choose a place in a file, more often near its ends, where most fields are."""
    near = int(min(length, rng.choice([50, 400, length])))
    place = int(rng.integers(0, max(near, 1)))
    if length and rng.random() < 0.3:
        return length - 1 - place
    # Formats are recognised by the first bytes: readers refuse most files at once if these are broken.
    return place + 8 if place < 8 and rng.random() < 0.95 else place


def _bytes(rng: np.random.Generator, data: bytes, _other: bytes) -> bytes:
    out = bytearray(data or b"?")
    for _ in range(rng.choice([1, 2, 8])):
        place = min(_place(rng, len(out)), len(out) - 1)
        out[place] = (out[place] ^ (1 << int(rng.integers(8)))) if rng.random() < 0.5 else int(rng.integers(256))
    return bytes(out)


def _field(rng: np.random.Generator, data: bytes, _other: bytes) -> bytes:
    size = int(rng.choice([1, 2, 4, 8]))
    place = _place(rng, len(data))
    return data[:place] + _number(rng, size) + data[place + size:]


def _number(rng: np.random.Generator, size: int) -> bytes:
    value = int(rng.choice(np.array(EXTREMES, object))) % 256**size
    return value.to_bytes(size, str(rng.choice(["little", "big"])))  # type: ignore[arg-type]


def _cut(rng: np.random.Generator, data: bytes, _other: bytes) -> bytes:
    return data[:int(rng.integers(0, len(data) + 1))]


def _splice(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    start = int(rng.integers(0, len(other) + 1))
    piece = other[start:start + int(rng.integers(0, 400))] * int(rng.choice([1, 1, 50]))
    place = _place(rng, len(data))
    return data[:place] + piece + data[place + int(rng.choice([0, len(piece)])):]


def _png(rng: np.random.Generator, data: bytes) -> bytes:
    """Change a chunk's content and correct its checksum, or insert or move a chunk."""
    chunks = []
    place = 8
    while place + 12 <= len(data):
        length, = struct.unpack(">I", data[place:place + 4])
        chunks.append((data[place + 4:place + 8], data[place + 8:place + 8 + length]))
        place += 12 + length
    if not chunks:
        return data
    which = int(rng.integers(len(chunks)))
    name, content = chunks[which]
    way = int(rng.integers(4))
    if way == 0:
        chunks[which] = name, _field(rng, content, b"")[:max(len(content), 1)]
    elif way == 1:
        chunks[which] = name, _bytes(rng, content, b"")
    elif way == 2:
        bomb = zlib.compress(bytes(int(rng.choice([10, 10**6, 10**7]))))
        chunks.insert(which, (PNG_CHUNKS[rng.integers(len(PNG_CHUNKS))], b"name\0\0" + bomb))
    else:
        chunks.insert(int(rng.integers(len(chunks))), chunks.pop(which))
    return data[:8] + b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c))
                               for n, c in chunks)


def _tiff(rng: np.random.Generator, data: bytes) -> bytes:
    """Change tag, type, number or value of a field in the directory."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 16:
        return data
    big = struct.unpack(order + "H", data[2:4])[0] == 43
    first, = struct.unpack(order + ("Q" if big else "I"), data[8:16] if big else data[4:8])
    if first + 10 > len(data):
        return data
    number, = struct.unpack(order + ("Q" if big else "H"), data[first:first + (8 if big else 2)])
    entry = first + (8 if big else 2) + (20 if big else 12) * int(rng.integers(max(1, min(number, 40))))
    offset, size = ((0, 2), (2, 2), (4, 8 if big else 4), (12 if big else 8, 8 if big else 4))[
        rng.choice(4, p=[0.1, 0.1, 0.2, 0.6])]
    value = int(rng.choice(np.array(EXTREMES, object))) % 256**size
    place = entry + offset
    return data[:place] + value.to_bytes(size, "little" if order == "<" else "big") + data[place + size:]


def _safetensors(rng: np.random.Generator, data: bytes) -> bytes:
    """Change a number, a type or a name in the header, and correct the header's length."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8:8 + length], data[8 + length:]
    found = list(re.finditer(rb"\d+|\"[A-Z]\w+\"|[\[\]{}:,]", header))
    if not found:
        return data
    match = found[rng.integers(len(found))]
    new = [str(rng.choice(np.array(EXTREMES, object))).encode(), b"-1", b"1e9", b"[" * 5000, b'"F64"', b'"I8"', b"null",
           b"", b'"\xff"'][rng.integers(9)]
    header = header[:match.start()] + new + header[match.end():]
    return len(header).to_bytes(8, "little") + header + rest


def _zip(rng: np.random.Generator, data: bytes) -> bytes:
    """Change a file of the archive and correct its checksum, or leave it out."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
            comment = archive.comment
    except Exception:  # not a zip, or no longer one
        return _bytes(rng, data, b"")
    if not parts:
        return data
    name = next(n for n in parts if n.endswith("data.pkl")) if rng.random() < 0.7 and any(
        n.endswith("data.pkl") for n in parts) else str(rng.choice(list(parts)))
    way = int(rng.integers(4))
    if way == 0:
        del parts[name]
    elif way == 1:
        parts[name] = bytes(int(rng.choice([0, 10**6, 10**8])))
    else:
        parts[name] = (_bytes, _field)[way - 2](rng, parts[name], b"")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED) as archive:
        archive.comment = comment
        for part, content in parts.items():
            archive.writestr(part, content)
    return buffer.getvalue()

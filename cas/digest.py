"""BLAKE3 digests: 32 raw bytes inside the store, 64 lower-case hexadecimal characters in front of people.

Source: the BLAKE3 specification (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), default 256-bit output.
This module must not know about files, LMDB or git.
"""

from __future__ import annotations

from blake3 import blake3

Digester = blake3


def digest_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """Return the 32-byte BLAKE3 digest of ``data``.

    One thread: below about 1 MB the library's thread pool costs more than it saves, and large files are streamed.
    """
    return blake3(data).digest()

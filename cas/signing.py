"""SSH signatures for commits, made in this process: what ``ssh-keygen -Y sign -n git`` prints, byte for byte.

Invariant: the same key and payload give the same signature for ever, so signed commit ids stay functions of
the manifest. ECDSA keys sign with the number of RFC 6979, which follows from the message, instead of a random one;
ssh-keygen takes a random one, so that its signatures differ each time, and accepts ours. Keys in a device with a
counter (``sk-``) and DSA keys are refused.

The private key is read once, is never written, and appears in no error, repr or pickle. This module needs the
optional ``cryptography`` package and imports it only when a key is opened.

Source: OpenSSH PROTOCOL.sshsig; RFC 8332 for ``rsa-sha2-512``; RFC 8709 for ``ssh-ed25519``; RFC 5656 for
``ecdsa-sha2-*``.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from cas.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey

_FIELD: Final = "git_signing_key"
_NAMESPACE: Final = b"git"
_DIGEST_NAME: Final = b"sha512"  # what ssh-keygen takes unless told otherwise
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = struct.pack(">I", 1)
_LINE_CHARS: Final = 70  # OpenSSH breaks its armor here
_MAX_KEY_FILE_BYTES: Final = 64 * 1024  # a 16384-bit RSA key takes 13 KB
_KINDS_HINT: Final = "Use an Ed25519 (or RSA, or ECDSA) key: ssh-keygen -t ed25519 -N '' -f <key>"
_OPENSSH_BEGIN: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"


class SshSigner:
    """Signs commits with one private key; safe to share between threads, made anew in another process."""

    __slots__ = ("_key", "_public_blob", "public_key")

    public_key: str
    """``ssh-ed25519 AAAA...``: the line for an allowed-signers file, without comment."""

    def __init__(self, key: PrivateKey, public_key: str) -> None:
        """Use a loaded key; ``open`` is the ordinary way."""
        self._key = key
        self.public_key = public_key
        self._public_blob = base64.b64decode(public_key.split(" ")[1])

    @classmethod
    def open(cls, path: Path | str) -> SshSigner:
        """Read an unencrypted Ed25519, RSA or ECDSA private key in OpenSSH format.

        Raises:
            ConfigError: The file is missing, unreadable, encrypted, in another format, of a kind that does
                not sign deterministically, or the ``cryptography`` package is not installed.
        """
        return _load(_read(Path(path)), str(path))

    @property
    def fingerprint(self) -> str:
        """``SHA256:...`` as ``ssh-keygen -l`` prints it."""
        text = base64.b64encode(hashlib.sha256(self._public_blob).digest()).decode("ascii")
        return f"SHA256:{text.rstrip('=')}"

    def sign(self, payload: bytes) -> str:
        """Return the armored signature of ``payload`` in the namespace ``git``, ending in a newline."""
        inner = b"".join([_string(_NAMESPACE), _string(b""), _string(_DIGEST_NAME)])
        signed = _MAGIC + inner + _string(hashlib.sha512(payload).digest())
        signature = _raw_signature(self._key, signed)
        blob = b"".join([_MAGIC, _VERSION, _string(self._public_blob), inner, _string(signature)])
        text = base64.b64encode(blob).decode("ascii")
        lines = [text[start : start + _LINE_CHARS] for start in range(0, len(text), _LINE_CHARS)]
        return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])

    def __repr__(self) -> str:
        """Name the key by its fingerprint."""
        return f"SshSigner({self.fingerprint})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: the private key must not leave the process."""
        msg = "SshSigner cannot be pickled; open the key file again"
        raise TypeError(msg)


def _load(data: bytes, path: str) -> SshSigner:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key
    except ImportError as error:
        raise _fault(path, "needs the 'cryptography' package", "pip install 'cas-gitexport[sign]'") from error
    if not data.lstrip().startswith(_OPENSSH_BEGIN):
        raise _fault(
            path, "is not a private key in OpenSSH format", "ssh-keygen -p -f <key> rewrites older formats"
        )
    try:
        key = load_ssh_private_key(data, password=None)
    except TypeError as error:  # how the library says that a password is missing
        hint = "Give the store a key of its own without a passphrase, readable by its user alone."
        raise _fault(path, "is encrypted", hint) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _fault(path, "is damaged or of an unsupported kind", _KINDS_HINT) from error
    if not isinstance(key, Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey):
        raise _fault(path, "does not sign deterministically, so commit ids would not repeat", _KINDS_HINT)
    try:
        _raw_signature(key, b"")
    except UnsupportedAlgorithm as error:  # OpenSSL below 3.2 takes a random number
        why = "does not sign deterministically with this OpenSSL, so commit ids would not repeat"
        raise _fault(path, why, _KINDS_HINT) from error
    public_key = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return SshSigner(key, public_key.decode("ascii"))


def _raw_signature(key: PrivateKey, data: bytes) -> bytes:
    """Return the signature in the form of the SSH protocol: the algorithm's name, then its bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA512

    if isinstance(key, Ed25519PrivateKey):
        return _string(b"ssh-ed25519") + _string(key.sign(data))
    if isinstance(key, RSAPrivateKey):
        return _string(b"rsa-sha2-512") + _string(key.sign(data, PKCS1v15(), SHA512()))
    return _ecdsa_signature(key, data)


def _ecdsa_signature(key: EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return an ECDSA signature in the form of RFC 5656: digest by the size of the curve, then both numbers."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

    digest = {256: SHA256(), 384: SHA384(), 521: SHA512()}[key.curve.key_size]
    numbers = decode_dss_signature(key.sign(data, ECDSA(digest, deterministic_signing=True)))
    inner = b"".join(_string(_number(number)) for number in numbers)
    return _string(f"ecdsa-sha2-nistp{key.curve.key_size}".encode()) + _string(inner)


def _number(value: int) -> bytes:
    """Return a positive number as SSH writes it: shortest, big-endian, with a zero before a set leading bit."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _string(data: bytes) -> bytes:
    """Return an SSH string: length in four bytes, big-endian, then the bytes."""
    return struct.pack(">I", len(data)) + data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise _fault(str(path), f"cannot be read ({error.strerror})", None) from error
    if len(data) > _MAX_KEY_FILE_BYTES:
        raise _fault(str(path), f"is larger than {_MAX_KEY_FILE_BYTES} bytes, so no key", None)
    return data


def _fault(path: str, why: str, hint: str | None) -> ConfigError:
    return ConfigError(f"{_FIELD}: {path} {why}", subject=_FIELD, hint=hint)

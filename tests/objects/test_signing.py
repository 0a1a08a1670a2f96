"""Commit signatures, compared with ssh-keygen and judged by git."""

from __future__ import annotations

import base64
import pickle
import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cas.errors import ConfigError
from cas.objects import Person, Signer, commit_bytes, object_id
from cas.signing import SshSigner

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects.conftest import ScratchRepository

UnsupportedAlgorithm = pytest.importorskip("cryptography.exceptions").UnsupportedAlgorithm
needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)

BOT = Person("algo-agent-bot", "algo-agent@example.com")
KINDS = {"ed25519": ["-t", "ed25519"], "rsa": ["-t", "rsa", "-b", "2048"]}
CURVES = {f"ecdsa-{bits}": ["-t", "ecdsa", "-b", bits] for bits in ("256", "384", "521")}


def _make_key(folder: Path, *args: str, passphrase: str = "") -> Path:
    path = folder / "key"
    command = ["ssh-keygen", "-q", "-C", "", "-N", passphrase, "-f", str(path), *args]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module", params=sorted(CURVES))
def ecdsa_key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key whose signatures by ssh-keygen differ each time, so that they cannot be compared."""
    return _make_key(tmp_path_factory.mktemp(request.param), *CURVES[request.param])


@pytest.fixture(scope="module", params=sorted(KINDS))
def key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make_key(tmp_path_factory.mktemp(request.param), *KINDS[request.param])


@needs_ssh_keygen
@pytest.mark.parametrize("payload", [b"", b"x", b"tree abc\n\nmessage\n", bytes(range(256)) * 40])
def test_ssh_signer_any_payload_signs_like_ssh_keygen(key: Path, payload: bytes) -> None:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(key)]
    theirs = subprocess.run(command, input=payload, check=True, capture_output=True).stdout.decode()
    signer: Signer = SshSigner.open(key)
    assert signer.sign(payload) == theirs
    assert signer.sign(payload) == theirs


@needs_ssh_keygen
def test_ssh_signer_public_key_and_fingerprint_are_those_of_ssh_keygen(key: Path) -> None:
    signer = SshSigner.open(str(key))
    assert signer.public_key == key.with_suffix(".pub").read_text().strip()
    listed = subprocess.run(["ssh-keygen", "-lf", str(key)], check=True, capture_output=True).stdout.decode()
    assert signer.fingerprint == listed.split()[1]
    assert repr(signer) == f"SshSigner({signer.fingerprint})"


@needs_ssh_keygen
def test_ssh_signer_signed_commit_is_verified_and_equal_to_gits_own(
    fresh_repository: ScratchRepository, key: Path, tmp_path: Path
) -> None:
    signer = SshSigner.open(key)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{BOT.email} {signer.public_key}\n")
    tree = bytes.fromhex(fresh_repository.write("tree", b""))
    unsigned = commit_bytes(tree, [], BOT, 1_762_525_800, "Signed\n\nBody\n")
    signed = commit_bytes(tree, [], BOT, 1_762_525_800, "Signed\n\nBody\n", signer.sign(unsigned))
    oid = fresh_repository.write("commit", signed)
    assert oid == object_id("commit", signed, fresh_repository.object_format).hex()
    fresh_repository.git("update-ref", "refs/heads/main", oid)
    fresh_repository.fsck()
    config = [
        "-c",
        "gpg.format=ssh",
        "-c",
        f"gpg.ssh.allowedSignersFile={allowed}",
        "-c",
        f"user.signingKey={key}",
    ]
    code, _, err = fresh_repository.run(*config, "verify-commit", "-v", oid)
    assert code == 0, err
    assert b'Good "git" signature for algo-agent@example.com' in err
    env = {f"GIT_{role}_DATE": "1762525800 +0000" for role in ("AUTHOR", "COMMITTER")}
    config += ["-c", f"user.name={BOT.name}", "-c", f"user.email={BOT.email}"]
    theirs = fresh_repository.git(
        *config, "commit-tree", "-S", tree.hex(), stdin=b"Signed\n\nBody\n", env=env
    )
    assert theirs.decode().strip() == oid


@needs_ssh_keygen
def test_ssh_signer_ecdsa_key_signs_the_same_each_time_and_git_accepts_it(
    fresh_repository: ScratchRepository, ecdsa_key: Path, tmp_path: Path
) -> None:
    signer = SshSigner.open(ecdsa_key)
    assert signer.public_key == ecdsa_key.with_suffix(".pub").read_text().strip()
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{BOT.email} {signer.public_key}\n")
    tree = bytes.fromhex(fresh_repository.write("tree", b""))
    config = ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed}"]
    oids = []
    for number in range(8):  # of their numbers half begin with a set bit, and are written longer
        unsigned = commit_bytes(tree, [], BOT, number, "Signed\n")
        signature = signer.sign(unsigned)
        assert signature == SshSigner.open(ecdsa_key).sign(unsigned)
        signed = commit_bytes(tree, [], BOT, number, "Signed\n", signature)
        oids.append(fresh_repository.write("commit", signed))
    code, _, err = fresh_repository.run(*config, "verify-commit", *oids)
    assert (code, err.count(b'Good "git" signature')) == (0, 8), err


@needs_ssh_keygen
def test_ssh_signer_ecdsa_key_is_refused_where_the_library_signs_at_random(
    ecdsa_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: object, **_settings: object) -> None:
        raise UnsupportedAlgorithm("ECDSA with deterministic signature is not supported by this OpenSSL")

    monkeypatch.setattr("cryptography.hazmat.primitives.asymmetric.ec.ECDSA", refuse)
    with pytest.raises(ConfigError, match="does not sign deterministically") as caught:
        SshSigner.open(ecdsa_key)
    assert "ed25519" in (caught.value.hint or "")


@needs_ssh_keygen
def test_ssh_signer_changed_commit_is_not_verified(
    fresh_repository: ScratchRepository, key: Path, tmp_path: Path
) -> None:
    signer = SshSigner.open(key)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{BOT.email} {signer.public_key}\n")
    tree = bytes.fromhex(fresh_repository.write("tree", b""))
    signature = signer.sign(commit_bytes(tree, [], BOT, 5, "before\n"))
    oid = fresh_repository.write("commit", commit_bytes(tree, [], BOT, 5, "after\n", signature))
    config = ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed}"]
    assert fresh_repository.run(*config, "verify-commit", oid)[0] != 0


@needs_ssh_keygen
@pytest.mark.parametrize("args", [("-t", "ecdsa", "-m", "PEM"), ("-t", "rsa", "-b", "2048", "-m", "PEM")])
def test_ssh_signer_unfit_kind_or_format_is_refused(tmp_path: Path, args: tuple[str, ...]) -> None:
    path = _make_key(tmp_path, *args)
    with pytest.raises(ConfigError) as caught:
        SshSigner.open(path)
    assert caught.value.subject == "git_signing_key"
    assert caught.value.hint


@needs_ssh_keygen
def test_ssh_signer_encrypted_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = _make_key(tmp_path, "-t", "ed25519", passphrase="correct horse")
    with pytest.raises(ConfigError, match="is encrypted"):
        SshSigner.open(path)


def test_ssh_signer_device_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(_device_key_file())
    with pytest.raises(ConfigError) as caught:
        SshSigner.open(path)
    assert "Ed25519" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "data", [b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", b"x" * 70_000]
)
def test_ssh_signer_file_without_a_key_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        SshSigner.open(path)


def test_ssh_signer_missing_file_or_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            SshSigner.open(path)


@needs_ssh_keygen
def test_ssh_signer_pickled_is_refused(key: Path) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(SshSigner.open(key))


@needs_ssh_keygen
def test_ssh_signer_without_cryptography_says_what_to_install(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as caught:
        SshSigner.open(key)
    assert "cas-gitexport[sign]" in (caught.value.hint or "")


def _device_key_file() -> bytes:
    """An OpenSSH key file naming a security key, as ssh-keygen writes it; a test has no device to make one."""

    def field(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    kind = field(b"sk-ssh-ed25519@openssh.com")
    public = kind + field(b"\x07" * 32) + field(b"ssh:")
    private = b"\0\0\0\5" * 2 + public + b"\1" + field(b"handle") + field(b"") + field(b"")
    private += bytes(range(1, 1 + -len(private) % 8))
    body = b"openssh-key-v1\0" + field(b"none") + field(b"none") + field(b"") + struct.pack(">I", 1)
    text = base64.encodebytes(body + field(public) + field(private))
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + text + b"-----END OPENSSH PRIVATE KEY-----\n"

"""A git repository as typed verbs: refs, objects, remotes; one git process with fixed arguments for each.

Invariant: nothing here touches the index, the work tree, HEAD or the configuration of an existing repository, and no
verb but ``list_remote_refs`` and ``run_remote`` reaches the network. Ids are lower-case hexadecimal text. This module
must not know of the store, of packs or of batches. A ``GitRepository`` holds no process, no lock and no open file
between calls, so threads may share it; what a verb returns may be out of date when it returns.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from cas.destination import folder_path
from cas.errors import ConfigError, ConflictError, GitCommandFailedError, NotFoundError
from gitexport.git import (
    ANY_EXIT,
    GitOptions,
    GitResult,
    command_failed,
    feed_git,
    git_version,
    mask_credentials,
    run_git,
    stream_git,
)
from gitexport.heldfile import mapped_os_errors
from gitexport.objectstream import ObjectStream, PipeReader, iter_streams
from gitexport.refvalues import RefChange, RefValue, check_oid, check_ref_name, ref_failure
from gitexport.remoteurl import checked_remote, checked_url, is_address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from cas.config import ObjectFormat

RefFormat = Literal["files", "reftable"]
# Exact names in one command line: git looks up each, and then compares each ref found with each name asked for.
_PATTERN_COUNT: Final = 1000
# A repository made for exports: whole objects need no delta search, and its owner decides when to repack.
_EXPORT_CONFIG: Final = (
    "[pack]\n\twindow = 0\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[receive]\n\tautogc = false\n"
)


class GitRepository:
    """An existing repository: bare, with a work tree, or a linked work tree.

    Attributes:
        path: Directory it was opened by, absolute.
        git_dir: Its git directory (of the linked work tree, if it is one).
        common_dir: The directory that holds objects and shared refs.
        object_format: ``sha1`` or ``sha256``.
        ref_format: ``files`` or ``reftable``.
        is_bare: True when it has no work tree.
        shared_bits: Permission bits that ``core.sharedRepository`` adds to files; 0 leaves them to the umask.
        options: What user configuration would otherwise say.
    """

    def __init__(self, path: Path, options: GitOptions | None = None) -> None:
        """Open the repository whose top or git directory is ``path``; parents are not searched.

        Raises:
            InvalidFileError: It is no path.
            GitCommandFailedError: No repository there (kind ``not_a_repository``), it belongs to another user
                (kind ``foreign_owner``), it is a partial clone (kind ``partial_clone``), or git is missing or old.
            StorageError: The folder cannot be entered.
        """
        git_version()
        self.path, self.options = folder_path(path).resolve(), options or GitOptions()
        self._hook_config: tuple[tuple[str, str], ...] = ()
        with mapped_os_errors(self.path):
            try:
                os.stat(f"{self.path}/.")  # noqa: PTH116  a path would lose the dot, which asks for the right to enter
            except (FileNotFoundError, NotADirectoryError):
                raise _no_repository(self.path) from None
        trust = (("safe.directory", "*"),) if self.options.trust_foreign_owner else ()
        # Discovery instead of --git-dir, as git checks the owner of the repository only there.
        words = "--absolute-git-dir --git-common-dir --is-bare-repository --show-object-format --show-prefix"
        try:
            result = run_git(
                ["rev-parse", *words.split()],
                cwd=self.path,
                options=self.options,
                config=trust,
                extra_env={"GIT_CEILING_DIRECTORIES": str(self.path.parent)},
            )
        except GitCommandFailedError as error:
            if error.kind == "not_a_repository":
                raise _no_repository(self.path) from error
            raise
        git_dir, common_dir, bare, object_format, prefix = os.fsdecode(result.stdout).split("\n")[:5]
        # A folder inside some other work tree: exporting there would be a surprise. One's own may be around it.
        if prefix and not os.path.lexists(self.path / ".git"):
            raise _no_repository(self.path)
        self.git_dir = Path(git_dir)
        self.common_dir = (self.path / common_dir).resolve()
        self.is_bare = bare == "true"
        self.object_format: ObjectFormat = cast("ObjectFormat", object_format)
        settings = self._settings()
        if any(re.fullmatch(r"extensions\.partialclone|remote\..*\.promisor", key) for key in settings):
            raise GitCommandFailedError(
                f"{self.path} is a partial clone, which cannot tell what it lacks",
                subject=str(self.path),
                hint="Export into a full clone, or into a bare repository of its own.",
                kind="partial_clone",
                retryable=False,
            )
        self.ref_format: RefFormat = (
            "reftable" if settings.get("extensions.refstorage", "").startswith("reftable") else "files"
        )
        self.shared_bits = _shared_bits(settings.get("core.sharedrepository", ""))
        names = {key.split(".", 1)[1].rpartition(".")[0] for key in settings if key.startswith("hook.")}
        self._hook_config = tuple((f"hook.{name}.enabled", "false") for name in sorted(names) if name)

    @classmethod
    def open(cls, path: Path, options: GitOptions | None = None) -> GitRepository:
        """Open an existing repository; see the constructor."""
        return cls(path, options)

    @classmethod
    def create(
        cls, path: Path, object_format: ObjectFormat = "sha1", options: GitOptions | None = None
    ) -> GitRepository:
        """Create an empty repository with a work tree at ``path``, a missing or empty folder."""
        return cls._create(path, ["init", "--quiet"], object_format, options)

    @classmethod
    def create_bare(
        cls, path: Path, object_format: ObjectFormat = "sha1", options: GitOptions | None = None
    ) -> GitRepository:
        """Create an empty bare repository for exports: files refs, no hooks, delta search or automatic gc.

        Raises:
            ConflictError: Something is already there.
        """
        repository = cls._create(path, ["init", "--quiet", "--bare"], object_format, options)
        with (repository.git_dir / "config").open("a", encoding="utf-8") as config:
            config.write(_EXPORT_CONFIG)
        return repository

    @classmethod
    def _create(
        cls, path: Path, verb: Sequence[str], object_format: ObjectFormat, options: GitOptions | None
    ) -> GitRepository:
        git_version()
        path = path.absolute()
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ConflictError(f"{path} is not empty", subject=str(path))
        run_git(
            [*verb, "--template=", "--initial-branch=main", f"--object-format={object_format}", str(path)],
            cwd=path,
            options=options or GitOptions(),
            extra_env={"GIT_DEFAULT_REF_FORMAT": "files"},  # older gits ignore it
        )
        return cls(path, options)

    def _run(
        self, *args: str, stdin: bytes = b"", accepted: Collection[int] = (0,), pass_fds: Collection[int] = ()
    ) -> GitResult:
        return run_git(
            args,
            cwd=self.git_dir,
            options=self.options,
            stdin=stdin,
            accepted=accepted,
            config=self._hook_config,
            extra_env={"GIT_DIR": str(self.git_dir)},
            pass_fds=pass_fds,
        )

    def _settings(self) -> dict[str, str]:
        listed = self._run("config", "--list", "-z").stdout
        pairs = (os.fsdecode(item).partition("\n") for item in listed.split(b"\0") if item)
        return {key: value for key, _, value in pairs}

    def list_refs(self, prefixes: Iterable[str] = ("refs",), *, peeled: bool = False) -> dict[str, RefValue]:
        """Return the refs that equal a prefix or lie in its folder, by full name.

        Args:
            prefixes: Full names or folders, such as ``refs/tags``.
            peeled: Also tell what annotated tags point at; reads each tag object, about 10 µs each.

        Raises:
            GitCommandFailedError: git failed.
        """
        words = ["%(objectname)", "%(refname)", "%(symref)", *(["%(*objectname)"] if peeled else [])]
        listed = self._run(
            "for-each-ref",
            f"--format={'%00'.join(words)}",
            "--end-of-options",
            *(p.rstrip("/") for p in prefixes),
        ).stdout
        found: dict[str, RefValue] = {}
        for line in _lines(listed):
            oid, name, symref, *target = line.split("\0")
            found[name] = RefValue(oid, (target[0] or None) if target else None, symref or None)
        return found

    def read_refs(self, names: Iterable[str]) -> dict[str, RefValue]:
        """Return those of the named refs that exist; exact names only, never a shorthand."""
        wanted = {check_ref_name(name) for name in names}
        found: dict[str, RefValue] = {}
        ordered = sorted(wanted)
        for first in range(0, len(ordered), _PATTERN_COUNT):
            found |= self.list_refs(ordered[first : first + _PATTERN_COUNT])
        return {name: value for name, value in found.items() if name in wanted}

    def checked_out_branches(self, among: Collection[str]) -> dict[str, Path]:
        """Return those of the given branches that some work tree has checked out, with its path; unborn ones too."""
        if self.ref_format == "files" and self._heads().isdisjoint(among):
            return {}
        listed = self._run("worktree", "list", "--porcelain", "-z").stdout
        found: dict[str, Path] = {}
        tree = Path()
        for item in os.fsdecode(listed).split("\0"):
            key, _, value = item.partition(" ")
            if key == "worktree":
                tree = Path(value)
            elif key == "branch" and value in among:
                found[value] = tree
        return found

    def _heads(self) -> set[str]:
        """Return what the HEAD of each work tree names; it costs no process to see that none is of interest."""
        heads: set[str] = set()
        for path in (self.common_dir / "HEAD", *self.common_dir.glob("worktrees/*/HEAD")):
            with contextlib.suppress(FileNotFoundError):  # a work tree that is being removed
                if path.is_symlink():  # how git wrote HEAD before 2006, and still does when told to
                    heads.add(str(path.readlink()))
                else:
                    heads.add(path.read_text("utf-8", "replace").partition(":")[2].strip())
        return heads

    def update_refs(self, changes: Iterable[RefChange], *, pass_fds: Collection[int] = ()) -> None:
        """Move refs in one ``git update-ref`` transaction; files of refs are synced, their folders are not.

        Ends without effect when this process is killed before git has read everything; a git killed while it
        commits may leave part of the refs moved and ``.lock`` files behind.

        Args:
            changes: Moves with expected old values; unique names.
            pass_fds: File descriptors git inherits, so that a lock of the caller lives as long as git does.

        Raises:
            ConflictError: A ref is not where it was expected, or another ref stands in the way; ``subject``
                names it.
            IntegrityError: An object is missing, or not a commit where a branch needs one.
            GitCommandFailedError: git failed; kind ``ref_locked`` when a lock file of somebody exists.
        """
        words = [b"start"]  # without the explicit commit, a truncated input would be committed as it stands
        for change in changes:
            name = check_ref_name(change.name).encode()
            new = check_oid(change.new_oid).encode() if change.new_oid else b""
            old = check_oid(change.old_oid).encode() if change.old_oid else b""
            if not new:
                words += [b"delete " + name, old]
            elif not old:
                words += [b"create " + name, new]
            else:
                words += [b"update " + name, new, old]
        words += [b"prepare", b"commit", b""]
        verb = ("update-ref", "--no-deref", "--stdin", "-z")
        result = self._run(*verb, stdin=b"\0".join(words), accepted=ANY_EXIT, pass_fds=pass_fds)
        if result.exit_code:
            raise ref_failure(result)

    def pack_refs(self, *, pass_fds: Collection[int] = ()) -> None:
        """Move all loose refs into ``packed-refs`` (or compact the reftable), synced; descriptors as `update_refs`."""
        self._run("pack-refs", "--all", "--prune", pass_fds=pass_fds)

    def read_object(self, oid: str) -> tuple[str, bytes]:
        """Return kind and content of one object, wholly in memory.

        Raises:
            NotFoundError: The repository does not have it.
        """
        output = self._run("cat-file", "--batch", stdin=check_oid(oid).encode() + b"\n").stdout
        header, _, rest = output.partition(b"\n")
        words = header.decode().split(" ")
        if words[-1] == "missing":
            raise NotFoundError(f"git has no object {oid}", subject=oid)
        return words[1], rest[: int(words[2])]

    def missing_objects(self, oids: Iterable[str]) -> set[str]:
        """Return those objects that the repository, alternates included, does not have; nothing is fetched."""
        wanted = [check_oid(oid) for oid in oids]
        kinds = self._check(wanted)
        return {oid for oid, (_, kind) in zip(wanted, kinds, strict=True) if kind == "missing"}

    def peel(self, oids: Iterable[str]) -> dict[str, tuple[str, str | None]]:
        """Return each object's kind (``missing`` if git lacks it) and, for a tag, the object behind it."""
        wanted = list(dict.fromkeys(check_oid(oid) for oid in oids))
        answers = self._check([expression for oid in wanted for expression in (oid, oid + "^{}")])
        found: dict[str, tuple[str, str | None]] = {}
        for oid, (_, kind), (target, target_kind) in zip(wanted, answers[::2], answers[1::2], strict=True):
            usable = (
                target_kind if kind == "tag" else kind
            )  # a tag of a missing object is as useless as no tag
            found[oid] = ("missing" if usable == "missing" else kind, target if kind == "tag" else None)
        return found

    def _check(self, expressions: Sequence[str]) -> list[tuple[str, str]]:
        if not expressions:
            return []
        output = self._run(
            "cat-file",
            "--buffer",
            "--batch-check=%(objectname) %(objecttype)",
            stdin="".join(f"{expression}\n" for expression in expressions).encode(),
        ).stdout
        answers = [line.split(" ", 1) for line in output.decode().splitlines()]
        if len(answers) != len(expressions):
            raise GitCommandFailedError(
                f"git cat-file answered {len(answers)} of {len(expressions)} questions"
            )
        return [(oid, kind) for oid, kind in answers]

    def iter_object_bytes(self, oids: Sequence[str]) -> Iterator[ObjectStream]:
        """Yield the objects in the order asked for, streaming their content in bounded memory.

        Each stream must be read before the next one is taken; what is left unread is skipped. A missing
        object comes as kind ``missing`` with no content. Closing the generator kills git.

        Raises:
            GitCommandFailedError: git died, or was silent for ``options.timeout_s``.
        """
        lines = [check_oid(oid).encode() + b"\n" for oid in oids]
        with stream_git(
            ["cat-file", "--batch", "--buffer"],
            cwd=self.git_dir,
            options=self.options,
            extra_env={"GIT_DIR": str(self.git_dir)},
        ) as process:

            def ended() -> GitCommandFailedError:
                said = process.stderr.read().decode("utf-8", "replace") if process.stderr else ""
                return command_failed("cat-file", GitResult(process.wait(), b"", mask_credentials(said)))

            feeder = threading.Thread(target=feed_git, args=(process, lines), daemon=True)
            feeder.start()
            pipe = process.stdout
            if pipe is None:
                raise command_failed("cat-file", GitResult(0, b"", "no output"))
            yield from iter_streams(oids, PipeReader(pipe.fileno(), self.options.timeout_s, ended))
        feeder.join()  # git is dead, so its pipe refuses what is left

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Tell whether one commit is reachable from another (or is the same).

        Raises:
            GitCommandFailedError: One of them is missing.
        """
        words = ["merge-base", "--is-ancestor", check_oid(ancestor), check_oid(descendant)]
        return self._run(*words, accepted=(0, 1)).exit_code == 0

    def stands_on(self, commit: str, other: str) -> bool:
        """Tell whether a commit has another in its history (or is it); False when one of them is not here."""
        try:
            return self.is_ancestor(other, commit)
        except GitCommandFailedError as error:
            if error.kind != GitCommandFailedError.kind:
                raise
            return False

    def fsck_strict(self) -> tuple[str, ...]:
        """Return the complaints of ``git fsck --strict`` over all objects; none when the repository is sound."""
        result = self._run("fsck", "--strict", "--full", "--no-dangling", "--no-progress", accepted=ANY_EXIT)
        lines = [*result.stdout.decode("utf-8", "replace").splitlines(), *result.stderr.splitlines()]
        # "notice:" lines tell of an unborn HEAD or of no refs at all, which is not damage.
        complaints = tuple(line for line in lines if line and not line.startswith("notice:"))
        return complaints or ((f"exit code {result.exit_code}",) if result.exit_code else ())

    def remotes(self) -> dict[str, str]:
        """Return the remotes with the URL a push would begin from; credentials in it are not masked."""
        listed = self._run(
            "config", "-z", "--get-regexp", r"^remote\..*\.(url|pushurl)$", accepted=(0, 1)
        ).stdout
        fetch: dict[str, str] = {}
        push: dict[str, str] = {}
        for item in os.fsdecode(listed).split("\0"):
            key, _, value = item.partition("\n")
            if key:
                name, _, variable = key.removeprefix("remote.").rpartition(".")
                (push if variable == "pushurl" else fetch)[name] = value
        return fetch | push

    def push_url(self, remote: str) -> str:
        """Return the URL that a push to ``remote`` goes to: a remote's name, a URL, or an absolute path.

        Raises:
            ConfigError: No such remote, several push URLs, or a transport that is not allowed (``ext::``, say).
            GitCommandFailedError: git failed.
        """
        url = checked_remote(remote)
        remotes = self.remotes()
        if remote in remotes:
            listed = self._run("remote", "get-url", "--push", "--all", "--", remote).stdout
            urls = _lines(listed)
            if len(urls) != 1:
                raise ConfigError(
                    f"remote {remote!r} has {len(urls)} push URLs; one is needed", subject=remote
                )
            url = urls[0]
        elif not is_address(remote):
            known = ", ".join(sorted(remotes)) or "none"
            raise ConfigError(
                f"no remote {remote!r} in {self.path}", hint=f"Remotes: {known}.", subject=remote
            )
        return checked_url(url, remote, self.path, self.options.protocols)

    def list_remote_refs(
        self, url: str, prefixes: Iterable[str] = ("refs/",), *, timeout_s: float | None = None
    ) -> dict[str, str]:
        """Return the remote's refs below the prefixes, name to oid, as one ``ls-remote`` answers.

        Args:
            url: As ``push_url`` gives it.
            prefixes: Leading parts of full names; the whole list travels in any case.
            timeout_s: Seconds until it is given up.

        Raises:
            GitCommandFailedError: The remote did not answer.
        """
        starts = tuple(prefixes)
        words = ["ls-remote", "--refs", "--quiet", "--upload-pack=git-upload-pack", "--end-of-options", url]
        listed = self.run_remote(words, timeout_s=timeout_s).stdout
        pairs = (line.split("\t", 1) for line in _lines(listed))
        return {name: oid for oid, name in pairs if name.startswith(starts)}

    def run_remote(
        self,
        args: Sequence[str],
        *,
        timeout_s: float | None = None,
        accepted: Collection[int] = (0,),
        extra_env: dict[str, str] | None = None,
        pass_fds: Collection[int] = (),
    ) -> GitResult:
        """Run one command that may use the allowed transports; the arguments are as ``run_git`` wants them.

        Raises:
            GitCommandFailedError: As ``run_git``.
        """
        return run_git(
            args,
            cwd=self.git_dir,
            options=self.options,
            timeout_s=timeout_s,
            accepted=accepted,
            network=True,
            config=self._hook_config,
            extra_env={"GIT_DIR": str(self.git_dir)} | (extra_env or {}),
            pass_fds=pass_fds,
        )


def _lines(output: bytes) -> list[str]:
    """Return lines as git ends them: `str.splitlines` also splits at characters that names of refs may hold."""
    return os.fsdecode(output).removesuffix("\n").split("\n") if output else []


def _no_repository(path: Path) -> GitCommandFailedError:
    return GitCommandFailedError(
        f"{path} is not a git repository",
        subject=str(path),
        hint=_way_to_repository(path),
        kind="not_a_repository",
        retryable=False,
    )


def _way_to_repository(path: Path) -> str:
    """Return what to do about a path that is no repository, by what is there and around it."""
    around = next((folder for folder in path.parents if (folder / ".git").exists()), None)
    quoted = shlex.quote(str(path))
    if around is not None:
        return f"It lies inside the repository {around}: give that one, or a folder outside of it."
    if path.is_dir() and any(path.iterdir()):
        return (
            f"Run `git init {quoted}`, which leaves the files there as they are; or give another repository."
        )
    if path.exists() and not path.is_dir():
        return "Give the folder of a repository, not a file."
    return f"Run `git init --bare {quoted}` for one that only holds exports; or give another repository."


def _shared_bits(setting: str) -> int:
    """Return the permission bits git adds to files under ``core.sharedRepository``."""
    group, everybody = dict.fromkeys(("group", "true", "1"), 0o660), ("all", "world", "everybody", "2")
    named = group | dict.fromkeys(everybody, 0o664)
    if re.fullmatch(r"0[0-7]{3}", setting):
        return int(setting, 8) & 0o666
    return named.get(setting.lower(), 0)

"""The one place where git is started: a clean environment, fixed argument lists, time limits, typed answers.

Invariant: what git does here depends on the arguments and the repository alone. No inherited ``GIT_*``
variable, system or user configuration, hook, pager, alias, prompt or replacement object takes part. A call
that runs out of time leaves no process behind: git leads its own session and process group, and the whole
group is killed. User text never becomes an option: names and ids go by standard input or behind
``--end-of-options``. This module must not know of the store, and must not touch index, work tree or HEAD of
any repository.

`repository.py` builds the typed verbs on it.

The repository's own configuration is still read, and may be hostile. What could start a program or lie about
objects is neutralised (see ``_FIXED_CONFIG`` and ``_environment``); where to push and how to reach it
(``remote.*.url``, ``url.*.insteadOf``, ``http.*``) is honoured: whoever can write there decides the remote
anyway, and build servers keep proxies and tokens in ``http.*``. Other ``remote.*`` keys start nothing: pushes name
a URL, so that only those of a remote called like the URL would count, and of these receivepack and uploadpack are
said on the command line, vcs is a transport that is not allowed, and mirror is refused beside refspecs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from cas.errors import GitCommandFailedError

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Sequence
    from types import ModuleType

# 2.36 is the first git that can be told to sync loose references (core.fsync=reference). Below it a ref that
# git reported as written may be an empty file after a power cut, and the receipt would be a lie.
MINIMUM_VERSION: Final = (2, 36)
DEFAULT_TIMEOUT_S: Final = 600.0
# http and git:// are neither private nor authentic, but a loopback or intranet server is the owner's choice,
# made in remote.*.url. Everything that names a program (ext::, fd::, any git-remote-<helper>) stays out.
PROTOCOLS: Final = ("https", "ssh", "file", "http", "git")
SSH_COMMAND: Final = "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15"
ANY_EXIT: Final = range(-64, 256)  # deaths by a signal included: the caller judges by what git said
_SHOWN_STDERR_CHARS: Final = 2000
_REAP_S: Final = 5.0  # a killed group is reaped at once; only a process stuck in the kernel takes longer

_MASKS: Final = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s'\"]+@"), r"\1***@"),
    (re.compile(r"(?i)\b(authorization:\s*\w+|bearer|basic)\s+[^\s'\"]+"), r"\1 ***"),
    (
        re.compile(r"(?i)\b((?:access_|private_)?token|password|passwd|secret)(\s*[=:]\s*)[^\s&'\"]+"),
        r"\1\2***",
    ),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-)[A-Za-z0-9_-]{8,}"), "***"),
)

_FIXED_CONFIG: Final = (
    ("core.hooksPath", "/dev/null"),  # hook files; hooks defined in configuration are switched off by name
    ("core.fsmonitor", "false"),  # would start a program
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),  # when to repack is the exporter's decision
    # No log file for each of 100,000 branches; existing logs are continued.
    ("core.logAllRefUpdates", "false"),
    ("core.fsync", "committed,reference"),
    ("core.filesRefLockTimeout", "2000"),  # milliseconds to wait for a person's own git on one ref
    ("core.packedRefsTimeout", "10000"),  # rewriting a file of 300,000 refs takes git about a second
    # One lock for all refs, held while tables are compacted; git's own is 100.
    ("reftable.lockTimeout", "5000"),
    ("credential.helper", ""),  # an empty value clears the list, URL-bound helpers of the repository included
    ("push.gpgSign", "false"),  # would start gpg.program
    ("push.negotiate", "false"),  # a fetch before every push
    ("push.recurseSubmodules", "no"),
    ("push.followTags", "false"),  # only what was asked for is pushed
    ("advice.graftFileDeprecated", "false"),  # said on every call that grafts are switched off
    ("pack.window", "0"),  # exported objects do not delta; the search costs seconds per push
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GitOptions:
    """What must be said explicitly because no user configuration is read.

    Args:
        ssh_command: Shell command for ssh remotes, in place of ``core.sshCommand``; None means a plain
            ``ssh`` that never prompts. The user's ``~/.ssh/config`` applies either way.
        credential_helper: git credential helper for http remotes, as ``credential.helper`` would hold it.
        protocols: Transports a push may use.
        trust_foreign_owner: Accept a repository that belongs to another user (git: ``safe.directory``). Its
            configuration then decides what is pushed where, so it is off by default.
        timeout_s: Seconds any local command may take.
    """

    ssh_command: str | None = None
    credential_helper: str | None = None
    protocols: tuple[str, ...] = PROTOCOLS
    trust_foreign_owner: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclasses.dataclass(frozen=True, slots=True)
class GitResult:
    """What a finished git process said; ``stderr`` has credentials masked."""

    exit_code: int
    stdout: bytes
    stderr: str


def mask_credentials(text: str) -> str:
    """Return ``text`` with user information of URLs, bearer values and known tokens replaced by ``***``."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text


@functools.cache
def git_version() -> tuple[int, ...]:
    """Return the version of the git on the PATH, checked against MINIMUM_VERSION; asked once per process.

    Raises:
        GitCommandFailedError: git is missing or too old; not retryable.
    """
    result = run_git(["version"], cwd=Path("/"), options=GitOptions())
    match = re.match(rb"git version (\d+)\.(\d+)(?:\.(\d+))?", result.stdout)
    version = tuple(int(part) for part in match.groups(b"0")) if match else ()
    if version < MINIMUM_VERSION:
        raise GitCommandFailedError(
            f"git {'.'.join(map(str, version))} is too old",
            hint=f"Install git {'.'.join(map(str, MINIMUM_VERSION))} or newer: older ones cannot sync refs.",
            kind="git_too_old",
            retryable=False,
        )
    return version


def run_git(
    args: Sequence[str],
    *,
    cwd: Path,
    options: GitOptions,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    config: Sequence[tuple[str, str]] = (),
    network: bool = False,
    accepted: Collection[int] = (0,),
    extra_env: dict[str, str] | None = None,
    pass_fds: Collection[int] = (),
) -> GitResult:
    """Run one git command to its end and return what it said.

    Args:
        args: Arguments after ``git``; fixed by the caller, without user text that could be an option.
        cwd: Directory to run in, absolute; it must exist.
        options: What user configuration would otherwise say.
        stdin: Bytes for standard input, which is closed afterwards.
        timeout_s: Seconds until the process group is killed; None takes the options' limit.
        config: Further configuration, stronger than any file.
        network: Allow the options' transports; otherwise none, so that nothing is fetched on the quiet.
        accepted: Exit codes that are not failures.
        extra_env: Further environment variables.
        pass_fds: File descriptors the process inherits.

    Raises:
        GitCommandFailedError: git is missing, ran out of time (kind ``git_timeout``), was killed by somebody else
            (kind ``git_killed``), or ended with another code.
    """
    limit_s = options.timeout_s if timeout_s is None else timeout_s
    env = _environment(options, config, network=network) | (extra_env or {})
    process = _start(args, cwd, env, pass_fds)
    try:
        stdout, stderr = process.communicate(stdin, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        _kill_group(process)
        raise GitCommandFailedError(
            f"git {args[0]} did not end within {limit_s:g} s and was killed", kind="git_timeout"
        ) from error
    except BaseException:
        _kill_group(process)
        raise
    result = GitResult(process.returncode, stdout, mask_credentials(stderr.decode("utf-8", "replace")))
    if result.exit_code not in accepted:
        raise command_failed(args[0], result)
    return result


def one_line(text: str) -> str:
    """Return what a program wrote as one line, for a log: its lines with `` / `` between them."""
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())


def command_failed(verb: str, result: GitResult) -> GitCommandFailedError:
    """Return the error for a git command that ended badly, with what git wrote, masked and cut."""
    said = one_line(result.stderr[-_SHOWN_STDERR_CHARS:])
    if result.exit_code < 0:
        return GitCommandFailedError(
            f"git {verb} was killed by signal {-result.exit_code}: {said or 'no message'}",
            hint="The system kills programs when memory runs out; what git had begun is done again by the next run.",
            kind="git_killed",
        )
    message = f"git {verb} failed (exit {result.exit_code}): {said or 'no message'}"
    if "dubious ownership" in said:
        # What git advises after its first line, an entry in a configuration of the user's, would not be read here.
        message = message.split(" / ", 1)[0]
        hint = "Run as the owner of the repository, or trust it: set git_trust_foreign_owner to true."
        return GitCommandFailedError(message, hint=hint, kind="foreign_owner", retryable=False)
    if "not a git repository" in said:
        return GitCommandFailedError(message, kind="not_a_repository", retryable=False)
    if "unknown repository extension" in said or "Expected git repo version" in said:
        hint = "A newer git made this repository (reftable needs git 2.45 or newer); upgrade git."
        return GitCommandFailedError(message, hint=hint, kind="git_too_old", retryable=False)
    return GitCommandFailedError(message)


@contextlib.contextmanager
def stream_git(
    args: Sequence[str], *, cwd: Path, options: GitOptions, extra_env: dict[str, str] | None = None
) -> Generator[subprocess.Popen[bytes], None, None]:
    """Run one local git command whose pipes the caller reads and writes; its group is killed on leaving.

    The caller keeps its own limit on silence; standard error is a pipe too, and is read by nobody else.

    Raises:
        GitCommandFailedError: git is missing or cannot be started.
    """
    env = _environment(options, (), network=False) | (extra_env or {})
    process = _start(args, cwd, env, ())
    try:
        yield process
    finally:
        _kill_group(process)


def feed_git(process: subprocess.Popen[bytes], lines: Iterable[bytes]) -> None:
    """Write lines to a streaming git and close its input; a git that died meanwhile is left to the reader."""
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ValueError), process.stdin as pipe:
        for line in lines:
            pipe.write(line)


def _environment(options: GitOptions, config: Sequence[tuple[str, str]], *, network: bool) -> dict[str, str]:
    env = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",  # fails at once; `true` would send an empty password, a failed login
        "SSH_ASKPASS": "false",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_SSH_COMMAND": options.ssh_command
        or SSH_COMMAND,  # also overrules the repository's core.sshCommand
        "GIT_PROXY_COMMAND": "",  # overrules core.gitProxy, a program for git:// remotes
        # Stronger than any protocol.*.allow of the repository, which would win over a bare
        # protocol.allow=never.
        "GIT_ALLOW_PROTOCOL": ":".join(options.protocols) if network else "none",
        "GIT_NO_LAZY_FETCH": "1",  # a partial clone must not fetch while it is asked what it has
        "GIT_NO_REPLACE_OBJECTS": "1",  # refs/replace would answer with other bytes than the id's
        "GIT_GRAFT_FILE": os.devnull,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ADVICE": "0",
        "GIT_COMMITTER_NAME": "cas-gitexport",  # for the logs of refs; commits carry their own identity
        "GIT_COMMITTER_EMAIL": "cas-gitexport@localhost",
    }
    pairs = [*_FIXED_CONFIG, *config]
    if options.credential_helper:
        pairs.append(("credential.helper", options.credential_helper))
    env["GIT_CONFIG_COUNT"] = str(len(pairs))  # like -c, but out of the process list and free of quoting
    for index, (key, value) in enumerate(pairs):
        env[f"GIT_CONFIG_KEY_{index}"] = key
        env[f"GIT_CONFIG_VALUE_{index}"] = value
    return env


def _start(
    args: Sequence[str], cwd: Path, env: dict[str, str], pass_fds: Collection[int]
) -> subprocess.Popen[bytes]:
    commands = _commands()
    # GitPython copies the environment and can only add to it, so inherited GIT_* variables are unset by
    # env(1).
    inherited = sorted(name for name in os.environ if name.startswith("GIT_") and name not in env)
    prefix = ["env", *(word for name in inherited for word in ("-u", name))] if inherited else []
    program = commands.Git.GIT_PYTHON_GIT_EXECUTABLE or "git"
    try:
        started: Any = commands.Git(str(cwd)).execute(
            # GitPython starts git where this process stands if it cannot enter the folder; git itself refuses that.
            [*prefix, program, "--no-pager", "-C", str(cwd), *args],
            istream=subprocess.PIPE,
            as_process=True,
            env=env,
            start_new_session=True,  # also takes away the terminal, so that nothing can prompt on it
            pass_fds=tuple(pass_fds),
        )
    except (commands.GitCommandNotFound, FileNotFoundError) as error:
        raise _git_missing() from error
    except OSError as error:
        raise GitCommandFailedError(f"git could not be started: {error.strerror}") from error
    process = cast("subprocess.Popen[bytes]", started.proc)
    started.proc = None  # detached: the wrapper would terminate git as soon as it is collected
    return process


@functools.cache
def _commands() -> ModuleType:
    """Return GitPython's module of commands; heavy, so that it is loaded with the first of them.

    Its package runs a ``git version`` of its own as it is loaded, in the user's configuration, and fails where that is
    broken or git is missing. The module is there by then, and what is started through it depends on neither.
    """
    try:
        import git.cmd as commands
    except ImportError as error:
        loaded = sys.modules.get("git.cmd")
        if loaded is None:
            raise _git_missing() from error
        return loaded
    return commands


def _git_missing() -> GitCommandFailedError:
    return GitCommandFailedError(
        "git is not installed, or not on the PATH", hint="Install git.", kind="git_missing", retryable=False
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill git and every child of its session, then reap it; the pipes are closed whatever holds them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was still buffered for git has no reader
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_REAP_S)

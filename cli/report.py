"""Reports of failure: what is said on stderr, and with which exit code the process ends.

Invariant: an expected error is one line and a hint that names the next command; an unexpected one is named as a defect
and shows its trace only on request. No error text is interpreted, and none is lost but what the secret gate
would refuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from cli import failures, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from cas.secretscan import SecretScanner
    from cli.session import Session

_WITHHELD: Final = "its text holds a credential, and is withheld"
# The base of every error about the command line; typer gives it no public name that all its versions share.
_USAGE_ERRORS: Final = typer.BadParameter.__mro__[2]


def tell(error: BaseException, session: Session) -> int:
    """Write an error to stderr and return its exit code."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _say(session, failures.INTERRUPTED, "interrupted", "interrupted", None)
    if isinstance(error, _USAGE_ERRORS):
        return _tell_usage(error, session)
    from cas.errors import ArtifactStoreError

    if isinstance(error, ArtifactStoreError):
        from cas.silence import refusal

        error = refusal(_scanner(session), error) or error
        code = failures.exit_code(error)
        session.output.error(error.message, error.hint, {**error.as_dict(), "exit_code": code})
        return code
    return _tell_unexpected(error, session)


def _tell_usage(error: BaseException, session: Session) -> int:
    context = getattr(error, "ctx", None)
    path = "cas" if context is None else context.command_path
    format_message: Callable[[], str] = getattr(error, "format_message", error.__str__)
    message = format_message().replace("\n", " ").replace("\t", "")
    shown = _shown(session, message, "the command line is not understood")
    return _say(session, failures.USAGE, "usage", shown, f"`{path} --help` shows how it is used.")


def _tell_unexpected(error: BaseException, session: Session) -> int:
    import traceback

    if settings.shows_traces():
        session.output.traceback(_shown(session, "".join(traceback.format_exception(error)), "the trace"))
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = _shown(session, text, type(error).__name__)
    hint = "This is a defect; please report it with the trace that CAS_DEBUG=1 shows."
    return _say(session, failures.UNEXPECTED, "unexpected", text, hint)


def _shown(session: Session, text: str, instead: str) -> str:
    """Return a text as it may be shown: words of the command line may hold a credential."""
    from cas.silence import shown

    return shown(_scanner(session), text) or f"{instead}: {_WITHHELD}"


def _scanner(session: Session) -> SecretScanner | None:
    """Return the scanner of the settings, of the built-in rules where these cannot be read; None when it is off."""
    from cas import ArtifactStoreError, SecretScanner
    from cas.intake import build_scanner

    try:
        return build_scanner(session.settings.config)
    except (ArtifactStoreError, OSError):  # they may be what the error is about
        return SecretScanner()


def _say(session: Session, code: int, kind: str, message: str, hint: str | None) -> int:
    fields: dict[str, object] = {"kind": kind, "error": message}
    if hint is not None:
        fields["hint"] = hint
    session.output.error(message, hint, {**fields, "exit_code": code})
    return code

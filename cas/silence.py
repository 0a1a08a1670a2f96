"""Errors that tell nothing of a credential, neither in their text nor in the locals of a traceback's frames.

Invariant: a call that is decorated raises no error whose text the secret gate would refuse. One about what was handed
in leaves it without the frames below; any other keeps them, for whoever looks for its cause, and their locals are gone.
Nothing is stored or logged here, and nothing is scanned when a call succeeds.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Protocol, TypeVar

from cas.errors import (
    ArtifactStoreError,
    InvalidFileError,
    InvalidInputError,
    NotFoundError,
    SecretDetectedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from cas.secretscan import SecretScanner

ERROR_NAME: Final = "the text of an error"
_OWN_PACKAGES: Final = frozenset({"cas", "gitexport"})


class _Scanning(Protocol):
    """What has a scanner, None when scanning is off."""

    @property
    def secret_scanner(self) -> SecretScanner | None: ...


_Owner = TypeVar("_Owner", bound=_Scanning)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def silent(
    method: Callable[Concatenate[_Owner, _Arguments], _Result],
) -> Callable[Concatenate[_Owner, _Arguments], _Result]:
    """Let a method's errors tell nothing of a credential among its arguments."""

    @functools.wraps(method)
    def call(self: _Owner, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return method(self, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001  raised again below
            told = _quieted(self.secret_scanner, error)
        del args, kwargs  # who prints the locals of a traceback finds no content in ours
        raise told

    return call


_Item = TypeVar("_Item")


def silent_iterator(
    method: Callable[Concatenate[_Owner, _Arguments], Iterator[_Item]],
) -> Callable[Concatenate[_Owner, _Arguments], Generator[_Item]]:
    """Let the errors of a method that yields tell nothing of a credential among its arguments."""

    @functools.wraps(method)
    def call(self: _Owner, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Generator[_Item]:
        items = method(self, *args, **kwargs)
        del args, kwargs
        try:
            yield from items
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  raised again below
            told = _quieted(self.secret_scanner, error)
        else:
            return
        raise told

    return call


def refusal(scanner: SecretScanner | None, error: ArtifactStoreError) -> ArtifactStoreError | None:
    """Return what to raise in place of an error that would tell of a credential, or None when it may be raised.

    Args:
        scanner: The scanner; None when scanning is off, and then only what the gate itself raised counts.
        error: The error; one of the gate is given back.

    Returns:
        The gate's error; that of a configured pattern which takes too long in the text, as then nobody knows.
    """
    if isinstance(error, SecretDetectedError):
        return error
    if scanner is None:
        return None
    text = "\n".join(map(str, (*error.args, error.message, error.subject, error.hint)))
    try:
        findings = scanner.scan(text.encode(errors="replace"), ERROR_NAME)
    except InvalidFileError as unknown:
        return unknown
    return SecretDetectedError(findings) if findings else None


def shown(scanner: SecretScanner | None, text: object) -> str | None:
    """Return a text as the answer to a refused call may repeat it, None for one that holds a credential."""
    if not isinstance(text, str):
        return None
    try:
        found = scanner is not None and scanner.scan(text.encode(errors="replace"), "")
    except InvalidFileError:  # a configured pattern takes too long: nobody knows
        return None
    return None if found else text


def _quieted(scanner: SecretScanner | None, error: BaseException) -> BaseException:
    """Return what to raise in place of an error, with nothing of the arguments in its text and frames."""
    if isinstance(error, ArtifactStoreError):
        told = refusal(scanner, error) or error
        if isinstance(told, InvalidInputError | NotFoundError | SecretDetectedError):
            return _without_frames(told)
    seen: list[BaseException] = []
    chain: list[BaseException | None] = [error]
    while chain:
        each = chain.pop()
        if each is None or any(each is other for other in seen):
            continue
        seen.append(each)
        chain += (each.__cause__, each.__context__)
        is_ours = False
        for frame, _ in traceback.walk_tb(each.__traceback__):
            name = str(frame.f_globals.get("__name__"))
            # Frames of a callback are the caller's own. A `with` of ours that an interrupt kept from ending is one of
            # contextlib's, and holds a transaction or a lock for as long as its frame is kept.
            is_ours = name.partition(".")[0] in _OWN_PACKAGES or (is_ours and name == "contextlib")
            if is_ours:
                # The decorated call itself runs still, as a frame of another thread may.
                with contextlib.suppress(RuntimeError):
                    frame.clear()
    return error


def _without_frames(error: ArtifactStoreError) -> ArtifactStoreError:
    """Return an error, and what it was raised from, without frames; a secret's without what it was raised from."""
    if isinstance(error, SecretDetectedError):
        error.__cause__ = None
    each: BaseException | None = error
    while each is not None:
        # What was handled meanwhile may be the caller's own, so it is left alone and only let go of.
        each.__traceback__ = each.__context__ = None
        each = each.__cause__
    return error

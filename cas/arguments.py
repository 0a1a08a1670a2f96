"""What a public call is handed: told at once, and by name, when it is of another kind than the call can use.

Invariant: a check here changes nothing and looks at the value only, so it stands before any work. What a value means
(a path, an ID, an expression) is for the module that uses it to judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from cas.config import MAX_NUMBER, ArtifactStoreConfig
from cas.errors import ConfigError, InvalidInputError


def check_config(config: object) -> None:
    """Refuse what is no configuration.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(config, ArtifactStoreConfig):
        raise ConfigError(f"config must be an ArtifactStoreConfig, not {type(config).__name__}")


def check_instance(value: object, kind: type, what: str) -> None:
    """Refuse what is no instance of a class.

    Raises:
        InvalidInputError: It is none; ``subject`` is ``what``.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InvalidInputError(
            f"{what} must be {article} {kind.__name__}, not {type(value).__name__}", subject=what
        )


def check_list(value: object, what: str, of: str) -> None:
    """Refuse what is no list; a text is none, as it would be taken letter by letter.

    Args:
        value: What was given; any iterable that is no text, bytes or mapping.
        what: Name of the argument.
        of: What it holds, in the plural.

    Raises:
        InvalidInputError: It is none; ``subject`` is ``what``.
    """
    kind = type(value)
    if issubclass(kind, str | bytes | bytearray | dict) or not issubclass(kind, Iterable):
        raise InvalidInputError(f"{what} must be a list of {of}, not {kind.__name__}", subject=what)


def check_callable(value: object, what: str) -> None:
    """Refuse what cannot be called.

    Raises:
        InvalidInputError: It cannot be called; ``subject`` is ``what``.
    """
    if not callable(value):
        raise InvalidInputError(f"{what} must be a function, not {type(value).__name__}", subject=what)


def check_progress(progress: object) -> None:
    """Refuse what cannot be told of progress; None stands for nobody.

    Raises:
        InvalidInputError: It cannot be called; ``subject`` is ``progress``.
    """
    if progress is not None:
        check_callable(progress, "progress")


def check_whole(value: object, what: str) -> None:
    """Refuse what is no whole number.

    Raises:
        InvalidInputError: It is none; ``subject`` is ``what``.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInputError(f"{what} must be a whole number", subject=what)


def check_seconds(value: object, what: str, *, endless: bool = False) -> None:
    """Refuse what is no number of seconds; None stands for no limit.

    Args:
        value: What was given.
        what: Name of the argument.
        endless: Whether infinity is one.

    Raises:
        InvalidInputError: It is none; ``subject`` is ``what``.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{what} must be a number of seconds", subject=what)
    if not (abs(value) <= MAX_NUMBER or (endless and value == math.inf)):  # NaN is not either
        raise InvalidInputError(f"{what} must be a number of seconds", subject=what)


def check_share(value: object, what: str) -> None:
    """Refuse what is no share of something: a number above 0 and at most 1.

    Raises:
        InvalidInputError: It is none; ``subject`` is ``what``.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise InvalidInputError(f"{what} must be above 0 and at most 1", subject=what)


def check_threads(value: object) -> None:
    """Refuse what is no number of threads; None leaves it to the call.

    Raises:
        InvalidInputError: It is none; ``subject`` is ``threads``.
    """
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidInputError("threads must be a whole number above 0", subject="threads")

"""The version of the distribution, in one place: the build backend and ``cas --version`` both read it here."""

from __future__ import annotations

__version__ = "0.1.0"

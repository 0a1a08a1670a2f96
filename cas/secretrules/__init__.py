"""The rule table of the secret gate, data only.

Invariant: an id stands for one kind of credential, which several rules may describe, and is never reused for
another, because waivers and baselines refer to it; any change of the table or of the judgement raises
``TABLE_VERSION``. Nothing is scanned here.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.assignments import ASSIGNMENTS, CLIENT_CALLS, KIND_RULES, SERVICE_NAMES, TABLES
from cas.secretrules.assistants import ASSISTANTS
from cas.secretrules.calls import CALLS
from cas.secretrules.cloud import CLOUD
from cas.secretrules.commands import COMMANDS
from cas.secretrules.hosting import HOSTING
from cas.secretrules.keys import KEYS
from cas.secretrules.messaging import MESSAGING
from cas.secretrules.model import Rule
from cas.secretrules.payments import PAYMENTS
from cas.secretrules.platforms import PLATFORMS
from cas.secretrules.wrapped import WRAPPED_LITERALS

# Raise it whenever a finding could change: with a rule, a word list, or the code that judges.
TABLE_VERSION: Final = 9

RULES: Final[tuple[Rule, ...]] = (
    *CLOUD,
    *HOSTING,
    *MESSAGING,
    *PAYMENTS,
    *PLATFORMS,
    *ASSISTANTS,
    *KEYS,
    *CALLS,
    *COMMANDS,
    *CLIENT_CALLS,
    *ASSIGNMENTS,
    *TABLES,
    *SERVICE_NAMES,
)

__all__ = ["KIND_RULES", "RULES", "TABLE_VERSION", "WRAPPED_LITERALS", "Rule"]

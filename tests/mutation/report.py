"""What was tried and what survived, kept as JSON, and written as a page.

A verdict belongs to a module and to a kind of run: *whole* runs tried every mutant of a module, the *sample* is drawn
over all modules. Only the sample says something of the core as a whole, so the two are never added up.
"""

import datetime
import hashlib
import importlib.metadata
import json
import math
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .groups import ROOT, core_modules
from .mutants import Mutant
from .workshop import KILLED

MARKER = "<!-- below this line: written by `make mutation-report` -->"
KINDS = (
    ("whole", "Modules tried whole", "make mutation MODULES=..."),
    ("sample", "A sample over the whole core", "make mutation"),
)
def write_report(v,p): ...

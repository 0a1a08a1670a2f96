"""Exports a `cas` store to git: branches, tags and pushes, in bulk and exactly.

``Exporter(store).run()`` exports what is queued and returns a summary.
"""

from __future__ import annotations

from gitexport.exporter import Exporter
from gitexport.importing import import_repository
from gitexport.importsummary import ImportSummary
from gitexport.summary import ExportSummary, export_status
from gitexport.verify import ExportReport, verify_export

__all__ = [
    "ExportReport",
    "ExportSummary",
    "Exporter",
    "ImportSummary",
    "export_status",
    "import_repository",
    "verify_export",
]

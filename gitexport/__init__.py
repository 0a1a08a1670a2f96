"""Exports a `cas` store to git: branches, tags and pushes, in bulk and exactly.

``Exporter(store).run()`` exports what is queued and returns a summary; ``archive_branches(store)`` rolls old branches
up.
"""

from __future__ import annotations

from gitexport.archivesummary import ArchiveSummary
from gitexport.archiving import archive_branches
from gitexport.exporter import Exporter
from gitexport.importing import import_repository
from gitexport.importsummary import ImportSummary
from gitexport.summary import ExportSummary, export_status
from gitexport.verify import ExportReport, verify_export

__all__ = [
    "ArchiveSummary",
    "ExportReport",
    "ExportSummary",
    "Exporter",
    "ImportSummary",
    "archive_branches",
    "export_status",
    "import_repository",
    "verify_export",
]

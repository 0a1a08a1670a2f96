"""The machine of exports against the product: what was promised at commit is what git shows."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import settings

from cas import ArtifactStoreConfig
from cas.testing import rollback_test_case
from gitexport.testing import ExportMachine

CONFIG = ArtifactStoreConfig(scan_for_secrets=False)

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


class TestExport(rollback_test_case(CONFIG, ExportMachine)):
    settings = settings(max_examples=4, stateful_step_count=12)


@pytest.mark.long
class TestExportLong(rollback_test_case(CONFIG, ExportMachine)):
    settings = settings(max_examples=60, stateful_step_count=30)

"""The kit's machine against the product, in each of its durability levels and both id formats."""

from __future__ import annotations

import pytest
from hypothesis import settings

from cas import ArtifactStoreConfig
from cas.testing import rollback_test_case

FEW = settings(max_examples=6, stateful_step_count=20)


class TestFull(rollback_test_case(ArtifactStoreConfig(scan_for_secrets=False))):
    settings = FEW


class TestRelaxedSha256(
    rollback_test_case(
        ArtifactStoreConfig(
            scan_for_secrets=False, durability="relaxed", object_format="sha256", include_metadata=False
        )
    )
):
    settings = FEW


@pytest.mark.long
class TestGroupLong(rollback_test_case(ArtifactStoreConfig(scan_for_secrets=False, durability="group"))):
    settings = settings(max_examples=150, stateful_step_count=60)

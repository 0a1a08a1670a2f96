"""Folders in memory where there are such: each example makes a store, and real flushes are not tested here."""

from __future__ import annotations

import os
import tempfile

import pytest


@pytest.fixture(autouse=True)
def folders_in_memory(monkeypatch):
    """Let the machines make their stores in memory."""
    if os.access("/dev/shm", os.W_OK):
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")

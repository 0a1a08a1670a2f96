"""What every test shares: Hypothesis profiles and an environment of its own.

Invariant: a test sees neither the user's git configuration nor a setting of the product left in the shell, and
generated examples are the same on every run of the default profile, so that a red test is red for everyone.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.descriptors import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

# No deadline and no "too slow" check in either: both judge the machine, not the code. The default profile derives its
# examples from the test itself; new ones are looked for by `make test-long`, which prints how to repeat a failure.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=50,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long",
    deadline=None,
    max_examples=2000,
    print_blob=True,
    stateful_step_count=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")

# A shell that starts the tests in the background makes them ignore interrupts, and every process they start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the user's home, git configuration and CAS_* settings from the whole session."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("GIT_", "CAS_")):
                patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        yield


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    """Hold a test to closing what it opens, whatever comes of it."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before

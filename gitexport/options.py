"""What the store's configuration says to git, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitexport.git import GitOptions

if TYPE_CHECKING:
    from cas.config import ArtifactStoreConfig


def git_options(config: ArtifactStoreConfig) -> GitOptions:
    """Return the options under which git runs for a store."""
    return GitOptions(
        ssh_command=config.git_ssh_command,
        credential_helper=config.git_credential_helper,
        trust_foreign_owner=config.git_trust_foreign_owner,
    )

"""Rules: git hosts, package registries and build services.

Invariant: data only; every pattern begins with characters that ordinary artifacts do not hold.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import Rule, token

HOSTING: Final[tuple[Rule, ...]] = (
    token("github-token", "GitHub token", rb"gh[pousr]_[A-Za-z0-9]{36}", "github"),
    token("github-app-token", "GitHub app installation token", rb"ghs_[A-Za-z0-9_.-]{60,600}"),
    token(
        "github-fine-grained-token",
        "GitHub fine-grained token",
        rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    ),
    token(
        "gitlab-token",
        "GitLab token",
        rb"gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|imt|ffct|oas)-[A-Za-z0-9_.=-]{20,64}",
    ),
    token("gitlab-runner-token", "GitLab runner token", rb"GR1348941[A-Za-z0-9_-]{20}"),
    token("bitbucket-token", "Atlassian token", rb"ATBB[A-Za-z0-9]{24,32}[A-F0-9]{8}"),
    token("atlassian-token", "Atlassian token", rb"ATATT3[A-Za-z0-9_=-]{100,250}"),
    token("atlassian-client-token", "Atlassian token", rb"ATCTT3[A-Za-z0-9_=-]{100,250}"),
    token("sourcegraph-token", "Sourcegraph token", rb"sgp_(?:[0-9a-f]{16}_|local_)?[0-9a-f]{40}"),
    token("gitea-token", "Codeberg or Gitea token", rb"gto_[A-Za-z0-9_-]{40,60}"),
    token("npm-token", "npm token", rb"npm_[A-Za-z0-9]{36}", "github"),
    token("pypi-token", "PyPI token", rb"pypi-[A-Za-z0-9_-]{85,250}"),
    token("rubygems-key", "RubyGems key", rb"rubygems_[0-9a-f]{48}"),
    token("crates-token", "crates.io token", rb"cio[A-Za-z0-9]{32}"),
    token("nuget-key", "NuGet key", rb"oy2[a-z0-9]{43}"),
    token("docker-token", "Docker Hub token", rb"dckr_[po]at_[A-Za-z0-9_-]{27,32}"),
    token("artifactory-token", "Artifactory token", rb"AKCp[A-Za-z0-9]{69}"),
    token("artifactory-reference", "Artifactory reference token", rb"cmVmd[A-Za-z0-9]{59}"),
    token("buildkite-token", "Buildkite token", rb"bkua_[0-9a-f]{40}"),
    token("circleci-token", "CircleCI token", rb"CCIP(?:AT|RJ)_[A-Za-z0-9]{22}_[0-9a-f]{40}"),
    token("octopus-key", "Octopus Deploy key", rb"API-[A-Z0-9]{26}"),
    token("readme-key", "ReadMe key", rb"rdme_[a-z0-9]{70}"),
    token("scalingo-token", "Scalingo token", rb"tk-us-[A-Za-z0-9_-]{48}"),
)

"""Rules: cloud providers, infrastructure, monitoring and data platforms.

Invariant: data only; every pattern begins with characters that ordinary artifacts do not hold.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import Rule, token

CLOUD: Final[tuple[Rule, ...]] = (
    token("aws-access-key-id", "AWS access key id", rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", "aws-id"),
    token("aws-bedrock-key", "AWS Bedrock API key", rb"ABSK[A-Za-z0-9+/]{109,260}={0,2}"),
    token("gcp-api-key", "Google API key", rb"AIza[A-Za-z0-9_-]{35}", end=rb"(?![A-Za-z0-9_-])"),
    token("gcp-oauth-secret", "Google OAuth client secret", rb"GOCSPX-[A-Za-z0-9_-]{28}"),
    token("gcp-oauth-token", "Google OAuth access token", rb"ya29\.[A-Za-z0-9_-]{30,400}"),
    token("gcp-refresh-token", "Google OAuth refresh token", rb"1//0[A-Za-z0-9_-]{40,120}"),
    token(
        "azure-client-secret",
        "Azure client secret",
        rb"[A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}",
        end=b"",
    ),
    Rule(
        id="azure-storage-key",
        description="Azure storage account key",
        pattern=rb"AccountKey=(?P<v>[A-Za-z0-9+/]{86}==)",
        check="random",
    ),
    Rule(
        id="azure-shared-access-key",
        description="Azure shared access key",
        pattern=rb"SharedAccessKey=(?P<v>[A-Za-z0-9+/]{40,90}={0,2})",
        check="random",
    ),
    Rule(
        id="azure-sas",
        description="Azure shared access signature",
        pattern=rb"[?&;]sig=(?P<v>(?:[A-Za-z0-9]|%[0-9A-Fa-f]{2}|[+/]){40,80}(?:%3[Dd]|=){1,2})",
        check="random",
    ),
    token("alibaba-access-key-id", "Alibaba Cloud access key id", rb"LTAI[A-Za-z0-9]{12,20}"),
    token("tencent-secret-id", "Tencent Cloud secret id", rb"AKID[A-Za-z0-9]{32}"),
    token(
        "backblaze-key", "Backblaze application key", rb"K00[0-9][A-Za-z0-9/+]{27}", end=rb"(?![A-Za-z0-9/+])"
    ),
    token("digitalocean-token", "DigitalOcean token", rb"do[opr]_v1_[0-9a-f]{64}"),
    token("heroku-key", "Heroku API key", rb"HRKU-[A-Za-z0-9_-]{36,64}"),
    token("fly-token", "Fly.io token", rb"fo1_[A-Za-z0-9_-]{43}"),
    token("netlify-token", "Netlify token", rb"nfp_[A-Za-z0-9]{36}"),
    token("render-token", "Render API key", rb"rnd_[A-Za-z0-9]{28,36}"),
    token("vault-token", "HashiCorp Vault token", rb"hv[sbr]\.[A-Za-z0-9_-]{24,250}"),
    token("terraform-token", "Terraform Cloud token", rb"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}"),
    token("pulumi-token", "Pulumi access token", rb"pul-[0-9a-f]{40}"),
    token("doppler-token", "Doppler token", rb"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{40,64}"),
    token("infisical-token", "Infisical service token", rb"st\.[0-9a-f]{24}\.[0-9a-f]{32}\.[0-9a-f]{32}"),
    token("onepassword-token", "1Password service account token", rb"ops_eyJ[A-Za-z0-9+/_-]{200,1000}={0,3}"),
    token("tailscale-key", "Tailscale key", rb"tskey-[a-z]{2,12}-[A-Za-z0-9]{6,24}-[A-Za-z0-9]{16,40}"),
    token("databricks-token", "Databricks token", rb"dapi[0-9a-f]{32}(?:-\d)?"),
    token("planetscale-token", "PlanetScale credential", rb"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,64}"),
    token("supabase-token", "Supabase token", rb"sb(?:p_[0-9a-f]{40}|_secret_[A-Za-z0-9_-]{24,40})"),
    token("neon-key", "Neon API key", rb"napi_[a-z0-9]{40,70}"),
    token("confluent-key", "Confluent secret", rb"cflt[A-Za-z0-9+/]{56,64}"),
    token("aiven-token", "Aiven token", rb"AVNS_[A-Za-z0-9_-]{16,24}"),
    token("prefect-key", "Prefect API key", rb"pn[ub]_[A-Za-z0-9]{36}"),
    token("grafana-token", "Grafana token", rb"glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}"),
    token("grafana-cloud-token", "Grafana Cloud token", rb"glc_[A-Za-z0-9+/]{32,400}={0,2}"),
    token("newrelic-key", "New Relic key", rb"NR(?:AK|II|JS|BR)-[A-Za-z0-9]{19,32}"),
    token("sentry-token", "Sentry token", rb"sntr(?:ys_[A-Za-z0-9+/=_-]{60,400}|yu_[0-9a-f]{64})"),
    token("posthog-key", "PostHog personal key", rb"phx_[A-Za-z0-9]{40,52}"),
    token("dynatrace-token", "Dynatrace token", rb"dt0[a-z]01\.[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    token(
        "launchdarkly-key", "LaunchDarkly key", rb"(?:sdk|api)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    ),
    token("airtable-token", "Airtable token", rb"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    token("notion-token", "Notion token", rb"(?:ntn_[A-Za-z0-9]{40,50}|secret_[A-Za-z0-9]{43})"),
    token("linear-key", "Linear API key", rb"lin_(?:api|oauth)_[A-Za-z0-9]{32,64}"),
    token("postman-key", "Postman API key", rb"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    token("figma-token", "Figma token", rb"figd_[A-Za-z0-9_-]{38,44}"),
    token("dropbox-token", "Dropbox token", rb"sl\.[A-Za-z0-9_-]{120,400}"),
    token("clojars-token", "Clojars token", rb"CLOJARS_[a-z0-9]{60}"),
    token("cloudflare-origin-key", "Cloudflare origin CA key", rb"v1\.0-[0-9a-f]{24}-[0-9a-f]{146}"),
)

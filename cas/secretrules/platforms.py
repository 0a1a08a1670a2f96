"""Rules: platforms for developers, businesses, sites and data, each known by the beginning of its keys.

Invariant: data only; every pattern begins with characters that ordinary artifacts do not hold.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import Rule, token

_TAIL: Final = rb"(?![A-Za-z0-9_-])"
_UUID: Final = rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

PLATFORMS: Final[tuple[Rule, ...]] = (
    # Clouds and their parts
    token("alibaba-sts-key", "Alibaba Cloud temporary key id", rb"STS\.[A-Za-z0-9]{22,40}"),
    token("baidu-key", "Baidu Cloud key", rb"bce-v3/ALTAK-[A-Za-z0-9]{21}/[0-9a-f]{40}"),
    token("yandex-api-key", "Yandex Cloud API key", rb"AQVN[A-Za-z0-9_-]{35,38}", end=_TAIL),
    token(
        "yandex-token",
        "Yandex IAM token",
        rb"t1\.[A-Za-z0-9_-]{80,500}={0,2}\.[A-Za-z0-9_-]{86}={0,2}",
        end=b"",
    ),
    token("yandex-oauth-token", "Yandex OAuth token", rb"y0__?[A-Za-z0-9_-]{50,64}", end=_TAIL),
    token("gcp-hmac-id", "Google storage HMAC key id", rb"GOOG1E[A-Z0-9]{55}"),
    token("fly-macaroon", "Fly.io macaroon", rb"fm[12][ar]?_[A-Za-z0-9+/_-]{80,500}={0,3}", end=b""),
    token("vercel-token", "Vercel token", rb"vc[apikr]_[A-Za-z0-9]{52,60}"),
    token("openshift-token", "OpenShift token", rb"sha256~[A-Za-z0-9_-]{43}", end=_TAIL),
    token("cockroach-key", "CockroachDB Cloud key", rb"CCDB1_[A-Za-z0-9]{22}_[A-Za-z0-9]{40}"),
    token("clickhouse-key", "ClickHouse Cloud secret", rb"4b1d[A-Za-z0-9]{38}"),
    token("atlas-secret", "MongoDB Atlas service account secret", rb"mdb_sa_sk_[A-Za-z0-9_-]{40}", end=_TAIL),
    token("scaleway-key-id", "Scaleway access key id", rb"SCW[A-Z0-9]{17}"),
    token("defined-key", "Defined Networking key", rb"dnkey-[a-z0-9=_-]{26}-[a-z0-9=_-]{52}", end=_TAIL),
    token("harness-key", "Harness key", rb"[ps]at\.[A-Za-z0-9_-]{22}\.[0-9a-f]{24}\.[A-Za-z0-9]{20}"),
    # Keys that bear a mark of their kind in the middle or at the end: the check takes in what stands around it
    Rule(
        id="azure-identifiable-key",
        description="Azure key that bears the mark of its service",
        pattern=rb"(?P<v>AzSe[A-D]|AzFu[A-Za-z0-9_-]|AzCa[A-P]|\+ACR[A-D]|\+AS[tb][A-Za-z0-9+/]|\+AEh[A-Za-z0-9+/]|\+ABa[A-Za-z0-9+/]"
        rb"|ACDb[A-Za-z0-9+/]|AIoT[A-Za-z0-9+/]|APIM[A-Za-z0-9+/]|AZDO[A-Za-z0-9]|JQQJ99[A-Z0-9])",
        check="marked",
    ),
    Rule(
        id="maxmind-key",
        description="MaxMind licence key",
        pattern=rb"(?P<v>_mmk)(?![A-Za-z0-9_])",
        check="marked",
    ),
    # Development
    token("adafruit-key", "Adafruit IO key", rb"aio_[A-Za-z0-9]{28}"),
    token(
        "authress-key",
        "Authress key",
        rb"(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,120}",
        end=b"",
    ),
    token(
        "buildkite-agent-token", "Buildkite agent token", rb"bk(?:aj|ct|t)_[A-Za-z0-9_-]{40,80}", end=_TAIL
    ),
    token("devcycle-key", "DevCycle key", rb"dvc_(?:server|client|mobile)_[a-z0-9-]{12,40}_[0-9a-f]{7}"),
    token("snyk-token", "Snyk token", rb"snyk_(?:uat|sat)\.[a-f0-9]{8}\.[A-Za-z0-9_.-]{40,400}", end=b""),
    token("sonar-token", "SonarQube token", rb"sq[upa]_[0-9a-f]{40}"),
    token("infracost-key", "Infracost key", rb"ico-[A-Za-z0-9]{32}"),
    token("ionic-token", "Ionic token", rb"ion_[A-Za-z0-9]{42}"),
    token("wakatime-key", "WakaTime key", rb"waka_" + _UUID),
    token("unkey-key", "Unkey key", rb"unkey_[A-Za-z0-9]{22,40}"),
    token("valtown-token", "Val Town token", rb"vtwn_[A-Za-z0-9]{26,40}"),
    token("thunderstore-token", "Thunderstore token", rb"tss_[A-Za-z0-9]{32,40}"),
    token("settlemint-token", "SettleMint token", rb"sm_[aps]at_[A-Za-z0-9]{16}"),
    token("rootly-key", "Rootly key", rb"rootly_[0-9a-f]{64}"),
    token("cursor-key", "Cursor key", rb"key_[0-9a-f]{64}"),
    token("sourcegraph-cody-token", "Sourcegraph Cody token", rb"slk_[0-9a-f]{64}"),
    token("apify-token", "Apify token", rb"apify_api_[A-Za-z0-9]{36,40}"),
    token("e2b-key", "E2B key", rb"e2b_[0-9a-f]{40}"),
    token("browserbase-key", "Browserbase key", rb"bb_live_[A-Za-z0-9_-]{20,40}", end=_TAIL),
    token("anyscale-key", "Anyscale key", rb"esecret_[A-Za-z0-9]{26,40}"),
    token("zuplo-key", "Zuplo key", rb"zpka_[A-Za-z0-9]{32}_[0-9a-f]{8}"),
    # Monitoring
    token("pagerduty-key", "PagerDuty key", rb"pdus\+_[0-9A-Z]{4}_[0-9a-f-]{36}"),
    token("logicmonitor-token", "LogicMonitor token", rb"lm[bv]1?_[A-Za-z0-9]{20,60}={0,2}", end=b""),
    # Business, mail and telephone
    token("adobe-secret", "Adobe client secret", rb"p8e-[A-Za-z0-9_-]{32}", end=_TAIL),
    token("amazon-oauth-secret", "Amazon OAuth client secret", rb"amzn1\.oa2-cs\.v1\.[0-9a-f]{64}"),
    token("amazon-mws-token", "Amazon MWS token", rb"amzn\.mws\." + _UUID),
    token("contentful-token", "Contentful token", rb"CFPAT-[A-Za-z0-9_-]{43}", end=_TAIL),
    token("duffel-token", "Duffel token", rb"duffel_(?:test|live)_[A-Za-z0-9_=-]{43}", end=_TAIL),
    token("easypost-key", "EasyPost key", rb"EZ[AT]K[A-Za-z0-9]{54}"),
    token("facebook-token", "Facebook access token", rb"EAA[A-Z][A-Za-z0-9]{100,300}"),
    token("frameio-token", "Frame.io token", rb"fio-u-[A-Za-z0-9_=-]{64}", end=_TAIL),
    token("hubspot-token", "HubSpot token", rb"pat-(?:na|eu|ap)\d-" + _UUID),
    token("instagram-token", "Instagram token", rb"IG(?:QV|AA)[A-Za-z0-9_-]{100,300}", end=_TAIL),
    token(
        "mapbox-secret-token",
        "Mapbox secret token",
        rb"sk\.eyJ1Ijoi[A-Za-z0-9_-]{20,120}\.[A-Za-z0-9_-]{20,30}",
        end=_TAIL,
    ),
    token(
        "onfido-token",
        "Onfido token",
        rb"api_(?:live|sandbox)(?:_[a-z]{2})?\.[A-Za-z0-9_-]{11}\.[A-Za-z0-9_-]{32}",
        end=_TAIL,
    ),
    token(
        "paddle-key", "Paddle key", rb"pdl_(?:live|sdbx)_apikey_[a-z0-9]{26}_[A-Za-z0-9]{22}_[A-Za-z0-9]{3}"
    ),
    token("persona-key", "Persona key", rb"persona_(?:production|sandbox)_" + _UUID),
    token("pinterest-token", "Pinterest token", rb"pina_[A-Za-z0-9]{32,300}"),
    token("polar-token", "Polar token", rb"polar_(?:oat|pat|whs)_[A-Za-z0-9]{32,64}"),
    token("ramp-secret", "Ramp client secret", rb"ramp_sec_[A-Za-z0-9]{48}"),
    token("salesforce-token", "Salesforce session", rb"00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]{80,120}", end=b""),
    token("segment-token", "Segment token", rb"sgp_[A-Za-z0-9]{64}"),
    token("shippo-token", "Shippo token", rb"shippo_(?:live|test)_[0-9a-f]{40}"),
    token("telnyx-key", "Telnyx key", rb"KEY0[0-9A-F]{31}_[A-Za-z0-9]{22}"),
    token("typeform-token", "Typeform token", rb"tfp_[A-Za-z0-9_.=-]{44,60}", end=_TAIL),
    token("zoho-token", "Zoho token", rb"1000\.[0-9a-f]{32}\.[0-9a-f]{32}"),
    token("asana-token", "Asana token", rb"[12]/\d{12,20}(?:/\d{12,20})?:[0-9a-f]{32}"),
    # Markets and money
    token("databento-key", "Databento key", rb"db-[A-Za-z0-9]{29}"),
    token("tinkoff-token", "Tinkoff Invest token", rb"t\.[A-Za-z0-9_-]{86}", end=_TAIL),
    token("quicknode-key", "QuickNode key", rb"QN_[0-9a-f]{32}"),
    token("gocardless-token", "GoCardless token", rb"(?:live|sandbox)_[A-Za-z0-9_-]{40}", end=_TAIL),
    token("lob-key", "Lob key", rb"(?:live|test)_[0-9a-f]{35}"),
    token("mercury-token", "Mercury token", rb"secret-token:mercury_[a-z]{2,12}_[A-Za-z0-9_]{30,80}"),
    token("paypal-token", "PayPal access token", rb"A21AA[A-Za-z0-9_-]{80,110}", end=_TAIL),
)

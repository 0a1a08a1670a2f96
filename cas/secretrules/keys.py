"""Rules: private keys, signed tokens, addresses with passwords, and authorization headers.

Invariant: data only; the parts that name a key format are what the format itself prescribes.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import START, Rule

# Headers such as DEK-Info hold single hyphens; five of them end the body. Key bodies appear with real line
# breaks, with escaped ones inside JSON, and quoted line by line in source code.
_BREAK = rb"(?:[\s\"'+,]|\\{1,4}[nr])"
_PEM_BODY = rb"(?:[A-Za-z0-9+/=:,.()]|(?<=[A-Za-z0-9])-(?=[A-Za-z0-9])|" + _BREAK + rb"){40,3600}"

KEYS: Final[tuple[Rule, ...]] = (
    Rule(
        id="private-key",
        description="private key",
        pattern=rb"(?P<v>-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----" + _PEM_BODY + rb")",
        check="pem",
        rank=90,
    ),
    Rule(
        id="ssh2-private-key",
        description="SSH2 private key",
        pattern=rb"(?P<v>---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----" + _PEM_BODY + rb")",
        check="pem",
        rank=90,
    ),
    Rule(
        id="putty-private-key",
        description="PuTTY private key",
        pattern=rb"PuTTY-User-Key-File-[1-3]: [\s\S]{20,2000}?Private-Lines: \d{1,3}"
        + _BREAK
        + rb"{1,4}(?P<v>[A-Za-z0-9+/=]{20,80})",
        rank=90,
    ),
    Rule(
        id="age-secret-key",
        description="age secret key",
        pattern=START + rb"(?P<v>AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58})",
        rank=90,
    ),
    Rule(
        id="extended-private-key",
        description="wallet's extended private key",
        pattern=START + rb"(?P<v>[xyzt]prv[1-9A-HJ-NP-Za-km-z]{100,112})(?![A-Za-z0-9])",
        rank=90,
    ),
    Rule(
        id="jwt",
        description="JSON web token",
        pattern=START
        + rb"(?P<v>eyJ[A-Za-z0-9_-]{10,1000}\.eyJ[A-Za-z0-9_-]{8,3000}\.[A-Za-z0-9_-]{16,1000})",
        check="jwt",
        rank=80,
    ),
    Rule(
        id="url-password",
        description="address with a password",
        pattern=rb"://[^\s/:@\"'`<>\\?#]{0,80}:(?P<v>[^\s/@\"'`<>\\]{3,200})@[A-Za-z0-9\[$%{._-]",
        check="url",
        rank=60,
        guard=rb"://[^\s/:@\"'`<>\\?#]{0,80}:[^\s/@\"'`<>\\]{3,200}@",
        literals=(b"://",),
    ),
    Rule(
        id="url-token",
        description="token in front of an address's host",
        pattern=rb"://(?P<v>[A-Za-z0-9_.-]{20,255})@[A-Za-z0-9]",
        check="url-token",
        rank=58,
        guard=rb"://[a-z0-9_.\-]{20,255}@",
        literals=(b"://",),
    ),
    Rule(
        id="jwk-private-key",
        description="private key as a JSON web key",
        pattern=rb"\\{0,3}\"kty\\{0,3}\"[^{}]{1,3000}?[\",{\s]d\\{0,3}\"\s{0,4}:\s{0,4}\\{0,3}\"(?P<v>[A-Za-z0-9_-]{40,700})\\{0,3}\"",
        check="strong",
        rank=85,
        guard=rb"\"kty\\*\"\s*:",
        literals=(b'"kty',),
    ),
    Rule(
        id="der-private-key",
        description="private key in base64 without its header",
        pattern=START
        + rb"(?P<v>(?:MII[CEJ][A-Za-z0-9+/]{2}IBADANBgkqhkiG9w0BAQEFAASC|MII[CEJ][A-Za-z0-9+/]{2}IBAAKCAQ"
        rb"|MHcCAQEEI|MIGHAgEAMBMGByqGSM49|MC4CAQAwBQYDK2Vw"
        rb"|b3BlbnNzaC1rZXktdjEAAAAA)[A-Za-z0-9+/=]{30,3600})",
        check="der",
        rank=88,
    ),
    Rule(
        id="bearer-token",
        description="bearer token in a header",
        pattern=rb"(?i:bearer)(?:\s{1,3}|%20|\+)(?P<v>[A-Za-z0-9._~+/=:-]{16,2000})",
        check="strong",
        rank=40,
        guard=rb"bearer(?:\s{1,3}|%20|\+)[A-Za-z0-9._~+/=:-]{16}",
        literals=(b"bearer",),
    ),
    Rule(
        id="basic-auth",
        description="basic authorization header",
        pattern=rb"(?i:basic)\s{1,3}(?P<v>[A-Za-z0-9+/]{8,300}={0,2})",
        check="basic",
        rank=70,
        guard=rb"authorization[\"'\]]{0,3}\s{0,3}[:=,]\s{0,3}[bf]?[\"']?basic\s{1,3}[A-Za-z0-9+/]{8}",
        literals=(b"basic",),
    ),
    Rule(
        id="stream-auth",
        description="key in the login message of a stream",
        pattern=rb"auth(?:enticate)?\\{0,3}[\"'],\s{0,4}\\{0,3}[\"'](?:params|args|key|data|token)\\{0,3}[\"']\s{0,4}:\s{0,4}\[?\s{0,4}\\{0,3}"
        rb"[\"'](?P<v>[A-Za-z0-9_+/=-]{16,128})\\{0,3}[\"']",
        check="strong",
        rank=30,
        guard=rb"auth(?:enticate)?\\*[\"'],\s*\\*[\"'](?:params|args|key|data|token)\\*[\"']\s*:\s*\[?\s*\\*[\"'][a-z0-9_+/=\-]{16}",
        literals=(b"auth",),
    ),
    Rule(
        id="directive-password",
        description="password in a directive of a settings file",
        pattern=rb"(?:requirepass|masterauth|bind_password|bindpw|r[ow]community6?)[ \t]{1,8}"
        rb"[\"']?(?P<v>[^\s\"'`]{6,128})",
        check="directive",
        rank=30,
        guard=rb"(?:requirepass|masterauth|bind_password|bindpw|r[ow]community6?)[ \t]+[\"']?[^\s\"'`]{6}",
        literals=(b"requirepass", b"masterauth", b"bind_password", b"bindpw", b"rocommunity", b"rwcommunity"),
    ),
    Rule(
        id="node-address-key",
        description="key in the address of a chain node",
        pattern=rb"(?:infura\.io/(?:ws/)?v3|alchemy(?:api)?\.(?:com|io)/v2|quiknode\.pro|rpc\.ankr\.com/[a-z_]{2,24}|chainstack\.com|getblock\.io)"
        rb"/(?P<v>[A-Za-z0-9_-]{24,64})(?![A-Za-z0-9_-])",
        check="strong",
        rank=40,
        guard=rb"(?:infura\.io/(?:ws/)?v3|alchemy(?:api)?\.(?:com|io)/v2|quiknode\.pro|rpc\.ankr\.com/[a-z_]{2,24}|chainstack\.com|getblock\.io)/[a-z0-9_\-]{24}",
        literals=(
            b"infura.io/",
            b"alchemy",
            b"quiknode.pro/",
            b"rpc.ankr.com/",
            b"chainstack.com/",
            b"getblock.io/",
        ),
    ),
    Rule(
        id="command-login",
        description="token given to a login command",
        pattern=rb"(?:wandb|huggingface-cli|hf|vault|doppler|pulumi|ngrok|flyctl|vercel)[ \t]"
        rb"(?:auth[ \t]|config[ \t])?(?:login|authtoken|add-authtoken)"
        rb"[ \t]{1,4}(?:--?[a-z-]{1,16}[ \t=]{1,4})?[\"']?(?P<v>[A-Za-z0-9_.-]{20,128})",
        check="strong",
        rank=30,
        guard=rb"(?:login|authtoken)[ \t]+(?:--?[a-z\-]+[ \t=]+)?[\"']?[a-z0-9_.\-]{20}",
        literals=(
            b"wandb",
            b"huggingface-cli",
            b"hf ",
            b"vault",
            b"doppler",
            b"pulumi",
            b"ngrok",
            b"flyctl",
            b"vercel",
        ),
    ),
    Rule(
        id="wallet-mnemonic",
        description="wallet's recovery phrase assigned to a name",
        pattern=rb"(?i:seed|recovery|mnemonic|backup|wallet|phrase)[A-Za-z _-]{0,24}[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
        rb"(?P<v>(?:[a-z]{3,8}[ ,]{1,2}){11,23}[a-z]{3,8})(?![A-Za-z])",
        check="mnemonic",
        rank=22,
        guard=rb"(?:seed|recovery|mnemonic|backup|wallet|phrase)[a-z _\-]*[\"']?\s*[:=]\s*"
        rb"[\"']?[a-z]+[ ,]+[a-z]+[ ,]+[a-z]+[ ,]+[a-z]",
        literals=(b"seed", b"recovery", b"mnemonic", b"backup", b"wallet", b"phrase"),
    ),
    Rule(
        id="registry-auth",
        description="user and password of a registry",
        pattern=rb"_?auth[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?P<v>[A-Za-z0-9+/]{12,300}={0,2})(?![A-Za-z0-9+/=])",
        check="basic",
        rank=70,
        guard=rb"[\"'_]auth[\"']?\s{0,3}[:=]\s{0,3}[\"']?[a-z0-9+/]{12}",
        literals=(b"auth",),
    ),
    Rule(
        id="command-user-password",
        description="user and password on a command line",
        pattern=rb"-(?:u(?:ser)?|a(?:uth)?)[\s=]{0,3}[\"']?[A-Za-z0-9._@\\-]{1,64}:(?P<v>[^\s\"'`]{4,128})",
        check="command",
        rank=30,
        guard=rb"\s-{1,2}(?:proxy-)?(?:u(?:ser)?|a(?:uth)?)[\s=]{0,3}[\"']?[A-Za-z0-9._@\\-]{1,64}:[^\s\"'`]{4}",
        literals=(b"-u", b"-a"),
    ),
    Rule(
        id="command-password",
        description="password on a command line",
        pattern=rb"(?<=\s)-[paw]\s{0,3}[\"']?(?P<v>[^\s\"'`$-][^\s\"'`]{5,128})",
        check="command",
        rank=30,
        guard=rb"(?:mysql|mariadb|sshpass|redis-cli|docker\s+login|mongosh?|sqlcmd|ftp)[^\n]*\s-[paw]\s*[\"']?[^\s\"'`$-][^\s\"'`]{5}",
        literals=(b"-p", b"-a", b"-w"),
    ),
    Rule(
        id="aws-secret-argument",
        description="AWS secret access key behind its name",
        pattern=rb"(?i:secret_?access_?key)[\s,;|]{1,8}(?P<v>[A-Za-z0-9+/]{40})(?![A-Za-z0-9+/=])",
        check="strong",
        rank=30,
        guard=rb"secret_?access_?key[\s,;|]+[a-z0-9+/]{40}",
        literals=(b"secret",),
    ),
    Rule(
        id="pgpass-password",
        description="password in a pgpass file",
        pattern=rb":(?:5432|5433|6432|5439|\*):[\w*.-]{1,64}:[\w.-]{1,64}:(?P<v>[^\s:\"'`]{6,128})(?=\r?(?:\n|\Z))",
        check="pgpass",
        rank=30,
        guard=rb"[a-z0-9.*\-]:(?:5432|5433|6432|5439|\*):[a-z0-9_*.\-]+:[a-z0-9_.\-]+:[^\s:\"'`]{6}",
        literals=(b":5432:", b":5433:", b":6432:", b":5439:", b":*:"),
    ),
    Rule(
        id="netrc-password",
        description="password in a netrc file",
        pattern=rb"(?i:password)\s{1,8}(?P<v>[^\s\"'`]{6,128})",
        check="password",
        rank=30,
        guard=rb"login\s+[^\s]+\s+password\s+[^\s\"'`]{6}",
        literals=(b"password",),
    ),
    Rule(
        id="authorization-header",
        description="token in an authorization header",
        pattern=rb"(?i:authorization)[\"'\]]{0,3}\s{0,3}[:=,]\s{0,3}[bf]?[\"']?"
        # "Basic" has a rule of its own, which decodes it.
        rb"(?!(?i:basic)\s)(?:[A-Za-z]{3,12}\s{1,3})?(?P<v>[A-Za-z0-9._~+/=:-]{16,2000})",
        check="strong",
        rank=35,
        guard=rb"authorization[\"'\]]*\s*[:=,]\s*[bf]?[\"']?(?:[a-z]{3,12}\s+)?[a-z0-9._~+/=:-]{16}",
        literals=(b"authorization",),
    ),
    Rule(
        id="auth-pair",
        description="user and password pair",
        pattern=rb"(?:login|(?i:set_?basic_?auth)|(?:auth|credentials)\s{0,3}=\s{0,3}(?:[A-Za-z_.]{0,32}BasicAuth)?)\(\s{0,8}[\"'][^\"'\s]{1,64}[\"']\s{0,3},\s{0,8}[\"'](?P<v>[^\"'\n]{4,128})[\"']",
        check="password",
        rank=30,
        guard=rb"(?:login|set_?basic_?auth|(?:auth|credentials)\s*=\s*(?:[a-z_.]*basicauth)?)\(\s*[\"'][^\"'\s]+[\"']\s*,\s*[\"'][^\"'\n]{4}",
        literals=(b"login", b"auth", b"credentials", b"setbasicauth", b"set_basic_auth"),
    ),
    Rule(
        id="sql-password",
        description="password in an SQL statement",
        pattern=rb"(?i:(?:create|alter)\s{1,3}(?:user|role|login|group)\b[^;\n]{1,160}?\bpassword\s{0,3}=?|identified\s{1,3}(?:with\s{1,3}[a-z0-9_'\"]{1,40}\s{1,3})?(?:by|as)|with\s{1,3}(?:encrypted\s{1,3})?password|set\s{1,3}password(?:\s{1,3}for\s{1,3}\S{1,64}\s{0,3}=\s{0,3})?)\s{0,3}(?P<q>[\"'])(?P<v>[^\"'\n]{4,128})(?P=q)",
        check="password",
        rank=30,
        guard=rb"(?:(?:create|alter)\s{1,3}(?:user|role|login|group)\s[^;\n]+\spassword\s{0,3}=?|identified\s{1,3}(?:with\s{1,3}[a-z0-9_'\"]{1,40}\s{1,3})?(?:by|as)|with\s{1,3}(?:encrypted\s{1,3})?password|set\s{1,3}password(?:\s{1,3}for\s{1,3}\S+\s{0,3}=\s{0,3})?)\s{0,3}[\"'][^\"'\n]{4}",
        literals=(b"identified", b"with", b"set", b"create", b"alter"),
    ),
)

"""For every rule that its prefix alone does not tell: what it must find, and what looks alike and is none.

The rules with a telling prefix are made from their patterns in ``test_rules``.
"""

# An example reads best as the one line that it is.
# ruff: noqa: E501

import base64

import pytest

from cas.secretrules import RULES
from cas.secretscan import SecretScanner, rule_ids
from cas.secretscan.checks import base62_checksum
from tests.secrets.corpus import B62, B64, DIGITS, HEX, LOWER, UPPER, URLSAFE, WORDS, Maker

BASE58 = "".join(character for character in B62 if character not in "0OIl")
BECH32 = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
PREFIXED = {rule.id for rule in RULES if rule.check == "random" and not rule.guard}


def b64(m, size=32):
    return base64.b64encode(m.random.randbytes(size)).decode()


def armor(m, title, lines=8):
    return (
        f"-----BEGIN {title}-----\n"
        + "\n".join(b64(m, 48) for _ in range(lines))
        + f"\n-----END {title}-----\n"
    )


def web_token(m):
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    body = base64.urlsafe_b64encode(b'{"sub":"desk","exp":1893456000}').decode().rstrip("=")
    return f"{head}.{body}.{m.of(URLSAFE, 42)}x"


def checked(m, prefix):
    body = m.of(B62, 30)
    return prefix + body + base62_checksum(body)


# fmt: off
EXAMPLES = {
    "azure-identifiable-key": (lambda m: m.of(B62, 42) + "Az" + "SeA" + m.of(B62, 5), lambda m: m.of(B62, 20) + "Az" + "SeA" + m.of(B62, 5)),
    "maxmind-key": (lambda m: m.of(B62, 6) + "_" + m.of(B62, 29) + "_m" + "mk", lambda m: "of_the_m" + "mk"),
    "url-token": (lambda m: f"git clone https://{m.of(B62, 40)}@git.internal/x", lambda m: f"dsn=https://{m.of(HEX, 32)}@o12.ingest.sentry.io/3"),
    "der-private-key": (lambda m: "MHc" + "CAQEEI" + b64(m, 90), lambda m: "MIIB" + "IjANBgkqhkiG9w0BAQEFAAOCAQ8A" + b64(m, 90)),
    "jwk-private-key": (lambda m: f'{{"kty":"OKP","x":"{m.of(B62, 43)}","d":"{m.of(B62, 43)}"}}', lambda m: f'{{"kty":"OKP","x":"{m.of(B62, 43)}","kid":"d"}}'),
    "connect-password": (lambda m: f"db = connect('host', 22, 'desk', '{m.of(B62, 9)}$7a')", lambda m: "db = connect('host', 22, 'desk', 'main')"),
    "ftp-password": (lambda m: f"FTP('ftp.x.io', 'desk', 'winter-{m.of(DIGITS, 4)}')", lambda m: "FTP('ftp.x.io', 'anonymous', 'anonymous')"),
    "secure-string": (lambda m: f'$s = ConvertTo-SecureString "winter-{m.of(DIGITS, 4)}" -AsPlainText -Force', lambda m: '$s = ConvertTo-SecureString "$env:DESK_PW_2" -AsPlainText -Force'),
    "collection-key": (lambda m: f'{{"key": "value", "value": "{m.of(B62, 40)}", "type": "string"}}', lambda m: '{"key": "value", "value": "{{key_of_the_desk_2}}", "type": "string"}'),
    "set-password": (lambda m: f"keyring.set_password('desk', 'ann', '{m.of(B62, 9)}$7a')", lambda m: "keyring.set_password('desk', 'ann', '<password>')"),
    "piped-password": (lambda m: f"echo {m.of(B62, 15)}7 | docker login --password-stdin", lambda m: "echo $PASSWORD | docker login --password-stdin"),
    "command-option-password": (lambda m: f"ldapsearch -D cn=x -w {m.of(B62, 15)}7", lambda m: "ldapsearch -D cn=x -w $BIND_PW_2"),
    "command-argument-password": (lambda m: f"mc alias set x https://x.io desk {m.of(B62, 15)}7", lambda m: "mc alias set x https://x.io desk $SECRET_2"),
    "command-joined-password": (lambda m: f"lftp -u desk,{m.of(B62, 15)}7 sftp://x", lambda m: "lftp -u desk,$PW_22 sftp://x"),
    "command-setting-token": (lambda m: f"npm config set //x.io/:_authToken {m.of(B62, 36)}", lambda m: "npm config set //x.io/:_authToken ${TOKEN_OF_THE_DESK}"),
    "expected-password": (lambda m: f'expect "password:"\nsend "{m.of(B62, 9)}7!\\r"', lambda m: 'expect "password:"\nsend "$pw\\r"'),
    "cookie-record-session": (lambda m: f'{{"name": "sessionid", "value": "{m.of(LOWER + DIGITS, 32)}", "domain": "x.io"}}', lambda m: f'{{"name": "sessionid", "value": "{m.of(LOWER + DIGITS, 32)}", "count": 1}}'),
    "cookie-file-session": (lambda m: f".x.io\tTRUE\t/\tTRUE\t1893456000\tsessionid\t{m.of(B62, 32)}", lambda m: f".x.io\tTRUE\t/\tTRUE\t1893456000\tpage\t{m.of(B62, 32)}"),
    "age-secret-key": (lambda m: "AGE-" + "SECRET-KEY-1" + m.of(BECH32, 58), lambda m: "age1" + m.of(LOWER + DIGITS, 58)),
    "api-key": (lambda m: f"api_key = '{m.of(B62, 32)}'", lambda m: f"cache_key = '{m.of(HEX, 32)}'"),
    "auth-pair": (lambda m: f"r = get(url, auth=('desk', '{m.of(B62, 10)}!7'))", lambda m: "r = get(url, auth=('user', 'password'))"),
    "authorization-header": (lambda m: f"Authorization: Token {m.of(HEX, 40)}", lambda m: "Authorization: Token $TIINGO_TOKEN_FROM_VAULT"),
    "aws-access-key-id": (lambda m: "AK" + "IA" + m.of(UPPER + "234567", 16), lambda m: "AK" + "IAIOSFODNN7EXAMPLE"),
    "aws-secret-access-key": (lambda m: f"aws_secret_access_key = {m.of(B64, 40)}", lambda m: "aws_secret_access_key = ${AWS_SECRET_ACCESS_KEY}"),
    "aws-secret-argument": (lambda m: f"aws configure set aws_secret_access_key {m.of(B64, 40)}", lambda m: "aws configure set aws_secret_access_key $KEY"),
    "basic-auth": (lambda m: "Authorization: Basic " + base64.b64encode(b"desk:" + m.of(B62, 14).encode()).decode(), lambda m: "Authorization: Basic " + base64.b64encode(b"user:password").decode()),
    "bearer-token": (lambda m: f"curl -H 'X: Bearer {m.of(B62, 40)}'", lambda m: "curl -H 'X: Bearer <your-token-goes-here>'"),
    "bitcoin-private-key": (lambda m: "wif " + m.pick("K", "L") + m.of(BASE58, 51), lambda m: "wallet " + m.of(BASE58, 34)),
    "client-credential": (lambda m: f"client = KrakenClient('{m.of(B62, 56)}')", lambda m: f"frame = DataFrame('{m.of(B62, 56)}')"),
    "command-login": (lambda m: f"wandb login {m.of(HEX, 40)}", lambda m: "wandb login --relogin --host=https://api.desk.internal"),
    "command-password": (lambda m: f"mysql -u quant -p{m.of(B62, 12)}7 ticks", lambda m: "mysql -u quant -p ticks"),
    "command-secret": (lambda m: f"gh secret set API_PASS --body '{m.of(B62, 40)}'", lambda m: 'gh secret set API_PASS --body "$API_PASS"'),
    "command-user-password": (lambda m: f"curl -u desk:{m.of(B62, 12)}7 https://desk.internal", lambda m: "curl -u user:password https://desk.internal"),
    "directive-password": (lambda m: f"requirepass {m.of(B62, 16)}7", lambda m: "requirepass foobared"),
    "extended-private-key": (lambda m: "xp" + "rv" + m.of(BASE58, 107), lambda m: "xpub" + m.of(BASE58, 107)),
    "github-token": (lambda m: checked(m, "gh" + "p_"), lambda m: "gh" + "p_" + "x" * 36),
    "jwt": (web_token, lambda m: f"{m.of(B62, 30)}.{m.of(B62, 60)}.{m.of(B62, 43)}"),
    "login-pair": (lambda m: f"s = tasty.Session('desk', '{m.of(B62, 9)}$7a')", lambda m: "s = boto3.Session('default', 'us-east-1')"),
    "mailchimp-key": (lambda m: m.of(HEX, 32) + "-us12", lambda m: m.of(HEX, 32) + "-eu-us"),
    "netrc-password": (lambda m: f"machine api.internal login desk password {m.of(B62, 14)}7", lambda m: "machine api.internal login desk password password"),
    "node-address-key": (lambda m: f"https://mainnet.infura.io/v3/{m.of(HEX, 32)}", lambda m: "https://mainnet.infura.io/v3/${INFURA_PROJECT_ID_OF_THE_DESK}"),
    "npm-token": (lambda m: checked(m, "np" + "m_"), lambda m: "np" + "m_" + "x" * 36),
    "password": (lambda m: f"password = '{m.of(B62, 12)}7!'", lambda m: "password = getpass('Password: ')"),
    "pgpass-password": (lambda m: f"db.internal:5432:ticks:quant:{m.of(B62, 13)}7", lambda m: "db.internal:5432:ticks:quant:*"),
    "private-key": (lambda m: armor(m, "EC " + "PRIVATE KEY"), lambda m: armor(m, "PUBLIC KEY")),
    "putty-private-key": (lambda m: f"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: desk\nPrivate-Lines: 1\n{b64(m, 48)}\n", lambda m: f"---- BEGIN SSH2 PUBLIC KEY ----\n{b64(m, 48)}\n"),
    "registry-auth": (lambda m: '"auth": "' + base64.b64encode(b"desk:" + m.of(B62, 20).encode()).decode() + '"', lambda m: '"auth": "' + b64(m, 24) + '"'),
    "returned-credential": (lambda m: f"def get_api_key():\n    return '{m.of(B62, 40)}'\n", lambda m: f"def cache_key(self):\n    return '{m.of(B62, 40)}'\n"),
    "secret-key": (lambda m: f"client_secret: {m.of(B62, 40)}", lambda m: "client_secret_name: prod/trading/alpaca-live-0001"),
    "service-credential": (lambda m: f"FINNHUB={m.of(LOWER + DIGITS, 20)}", lambda m: "FINNHUB=https://finnhub.io/api/v1/quote"),
    "session-cookie": (lambda m: f"Cookie: sessionid={m.of(LOWER + DIGITS, 32)}; theme=dark", lambda m: f"ETag: sessionid={m.of(LOWER + DIGITS, 32)}"),
    "signing-key": (lambda m: f"hmac.new(b'{m.of(B62, 40)}', body, sha256)", lambda m: "hmac.new(b'key', b'the message that is signed', sha256)"),
    "sql-password": (lambda m: f"ALTER USER bot IDENTIFIED BY '{m.of(B62, 12)}7'", lambda m: "ALTER USER bot IDENTIFIED BY '<password>'"),
    "ssh2-private-key": (lambda m: "---- BEGIN SSH2 ENCRYPTED " + "PRIVATE KEY ----\n" + "\n".join(b64(m, 48) for _ in range(6)), lambda m: "---- BEGIN SSH2 PUBLIC KEY ----\n" + b64(m, 48)),
    "stream-auth": (lambda m: f'{{"action":"auth","params":"{m.of(B62, 32)}"}}', lambda m: '{"action":"auth","params":"your_key_here_please"}'),
    "stripe-live-key": (lambda m: "sk" + "_live_" + m.of(B62, 24), lambda m: "sk" + "_live_" + "x" * 24),
    "stripe-test-key": (lambda m: "sk" + "_test_" + m.of(B62, 24), lambda m: "sk" + "_test_" + "x" * 24),
    "telegram-token": (lambda m: m.of(DIGITS[1:], 10) + ":AA" + m.of(B62, 33), lambda m: "Z:AA" + m.of(B62, 33)),
    "token": (lambda m: f"access_token = '{m.of(B62, 32)}'", lambda m: f"next_page_token = '{m.of(B62, 32)}'"),
    "token-signing-key": (lambda m: f"jwt.encode(claims, '{m.of(B62, 32)}', algorithm='HS256')", lambda m: "jwt.decode(raw, options={'verify_signature': False})"),
    "trading-credential": (lambda m: f"KRAKEN_API_KEY={m.of(B62, 56)}", lambda m: "KRAKEN_API_KEY=${KRAKEN_API_KEY}"),
    "twitter-bearer-token": (lambda m: "bearer: " + "A" * 21 + m.of(B62, 80) + "7z", lambda m: "bdata: " + "A" * 21 + m.of(B62, 80) + "7z"),
    "url-password": (lambda m: f"postgres://quant:{m.of(B62, 14)}@db/ticks", lambda m: "postgres://user:password@db/ticks"),
    "wallet-mnemonic": (lambda m: "mnemonic: " + " ".join(m.random.sample(WORDS, 12)), lambda m: "mnemonic: the first letters of our twelve rules for a good entry in trading"),
    "wallet-private-key": (lambda m: f"private_key = '0x{m.of(HEX, 64)}'", lambda m: f"public_key = '0x{m.of(HEX, 64)}'"),
}
# fmt: on


def test_every_rule_without_a_telling_prefix_has_examples():
    assert set(EXAMPLES) == rule_ids() - PREFIXED


@pytest.mark.parametrize("engine", ["hyperscan", "python"])
@pytest.mark.parametrize("rule", EXAMPLES)
def test_rule_example_is_found_by_that_rule_and_its_counterpart_by_none(rule, engine):
    if engine == "hyperscan":
        pytest.importorskip("hyperscan", reason="no wheel for this machine")
    scanner = SecretScanner(engine=engine)
    credential, counterpart = EXAMPLES[rule]
    for seed in range(3):
        text = credential(Maker(f"{rule}/{seed}"))
        assert rule in {finding.rule for finding in scanner.scan(f"1\n{text}\n".encode(), "x.txt")}, text
        text = counterpart(Maker(f"{rule}/{seed}"))
        assert scanner.scan(f"1\n{text}\n".encode(), "x.txt") == [], text

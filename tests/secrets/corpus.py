"""A corpus of artifacts with and without credentials, made from a seed; every value is generated, none was
ever valid.

Each sample is one small artifact. A template is chosen at random and filled with random values, and the
samples are then divided by a fixed seed into a half for tuning and a half that is only reported on. Nothing
here looks like a credential in the source: what has a telling beginning is put together when the corpus is
made.
"""

# A template reads best as the one line that it is.
# ruff: noqa: E501

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from dataclasses import dataclass

LOWER = string.ascii_lowercase
UPPER = string.ascii_uppercase
DIGITS = string.digits
HEX = "0123456789abcdef"
B62 = string.ascii_letters + DIGITS
B64 = B62 + "+/"
URLSAFE = B62 + "-_"
WORDS = [
    "amber",
    "anchor",
    "basil",
    "beacon",
    "cedar",
    "copper",
    "delta",
    "ember",
    "falcon",
    "garnet",
    "harbor",
    "indigo",
    "jasper",
    "kestrel",
    "lantern",
    "meadow",
    "nimbus",
    "orchid",
    "pepper",
    "quartz",
    "raven",
    "saffron",
    "timber",
    "umber",
    "velvet",
    "willow",
    "yonder",
    "zephyr",
    "glacier",
    "marble",
]
SYMBOLS = ("GOOG", "AAPL", "BTC-USDT", "ETH-USD", "EURUSD", "SPY", "NIFTY")
BROKERS = (
    "binance",
    "coinbase",
    "kraken",
    "alpaca",
    "oanda",
    "polygon",
    "bybit",
    "okx",
    "tradier",
    "finnhub",
    "ibkr",
    "kucoin",
)


@dataclass(frozen=True)
class Sample:
    """One artifact; ``line`` is where its credential stands, or 0 when it holds none."""

    name: str
    data: bytes
    line: int
    template: str


class Maker:
    """Draws values; one for each sample, so that a template's draw does not move the others."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def of(self, alphabet: str, count: int) -> str:
        return "".join(self.random.choice(alphabet) for _ in range(count))

    def pick(self, *choices):
        return self.random.choice(choices)

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def password(self) -> str:
        word = self.pick(*WORDS)
        return self.pick(
            word.capitalize() + str(self.number(1000, 9999)) + self.pick("!", "#", "?", "*"),
            word + self.pick("@", "_", ".") + self.pick(*WORDS) + str(self.number(10, 999)),
            self.of(B62, self.number(10, 20)),
            self.of(B62 + "!#%^*_", self.number(12, 24)),
            word[0].upper() + word[1:].replace("a", "4").replace("e", "3") + "_" + str(self.number(10, 9999)),
        )

    def passphrase(self) -> str:
        return self.pick("-", "_", " ").join(self.random.sample(WORDS, 4))

    def api_key(self) -> str:
        return self.pick(
            self.of(B62, self.number(20, 64)),
            self.of(HEX, self.pick(32, 40, 64)),
            self.of(UPPER + DIGITS, self.number(16, 32)),
            self.of(LOWER + DIGITS, self.number(20, 40)),
            self.of(URLSAFE, self.number(24, 48)),
            self.uuid(),
        )

    def api_secret(self) -> str:
        return self.pick(
            self.of(B62, self.number(32, 64)),
            self.of(HEX, self.pick(32, 64)),
            base64.b64encode(self.random.randbytes(self.pick(32, 48, 64))).decode(),
        )

    def uuid(self) -> str:
        return "-".join(self.of(HEX, count) for count in (8, 4, 4, 4, 12))

    def digest(self) -> str:
        return self.of(HEX, self.pick(32, 40, 64))

    def date(self) -> str:
        return f"20{self.number(15, 26)}-{self.number(1, 12):02}-{self.number(1, 28):02}"

    def ident(self) -> str:
        return "_".join(self.random.sample(WORDS, self.number(1, 3)))

    def key_name(self) -> str:
        broker = self.pick(*BROKERS)
        return self.pick(
            "api_key",
            "API_KEY",
            "apiKey",
            "apikey",
            "api-key",
            "APIKEY",
            f"{broker}_api_key",
            f"{broker.upper()}_API_KEY",
            f"{broker}ApiKey",
            "access_key",
            "ACCESS_KEY",
            f"{broker.upper()}_KEY",
            f"{broker}_key",
            "app_key",
            "auth_key",
            "api_key_live",
            "API_KEY_PROD",
            "exchange_api_key",
        )

    def secret_name(self) -> str:
        broker = self.pick(*BROKERS)
        return self.pick(
            "secret_key",
            "SECRET_KEY",
            "secretKey",
            "secret",
            "api_secret",
            "API_SECRET",
            "apiSecret",
            "client_secret",
            f"{broker}_secret",
            f"{broker.upper()}_API_SECRET",
            f"{broker}_secret_key",
            "JWT_SECRET",
            "webhook_secret",
            "app_secret",
            "clientSecret",
            "signing_secret",
        )

    def token_name(self) -> str:
        broker = self.pick(*BROKERS)
        return self.pick(
            "token",
            "TOKEN",
            "access_token",
            "ACCESS_TOKEN",
            "authToken",
            "auth_token",
            "api_token",
            f"{broker}_token",
            f"{broker.upper()}_TOKEN",
            "refresh_token",
            "bot_token",
            "bearer_token",
            "accessToken",
            "slack_token",
            "session_token",
        )

    def password_name(self) -> str:
        return self.pick(
            "password",
            "PASSWORD",
            "passwd",
            "pwd",
            "db_password",
            "DB_PASSWORD",
            "dbPassword",
            "smtp_password",
            "ibkr_password",
            "POSTGRES_PASSWORD",
            "redis_passwd",
            "admin_pwd",
            "user_password",
            "Password",
            "passphrase",
            "okx_passphrase",
            "DB_PASS",
        )

    def named(self) -> tuple[str, str]:
        return self.pick(
            (self.key_name(), self.api_key()),
            (self.secret_name(), self.api_secret()),
            (self.token_name(), self.pick(self.api_key(), self.api_secret())),
            (self.password_name(), self.password()),
            (self.pick("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"), self.of(B64, 40)),
        )


def base62(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 62)
        text = (DIGITS + UPPER + LOWER)[digit] + text
    return text.rjust(6, "0")


def telling(m: Maker) -> str:
    """Return a credential with a telling beginning."""
    entropy = m.of(B62, 30)
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    payload = (
        base64.urlsafe_b64encode(json.dumps({"sub": m.ident(), "iat": m.number(10**9, 2 * 10**9)}).encode())
        .decode()
        .rstrip("=")
    )
    discord_id = base64.b64encode(str(m.number(10**17, 10**18)).encode()).decode().rstrip("=")
    return m.pick(
        "AK" + "IA" + m.of(UPPER + DIGITS, 16),
        "AS" + "IA" + m.of(UPPER + "234567", 16),
        "gh" + m.pick("p", "o", "s") + "_" + entropy + base62(zlib.crc32(entropy.encode())),
        "gh" + "p_" + m.of(B62, 36),
        "github" + "_pat_" + m.of(B62, 22) + "_" + m.of(B62, 59),
        "gl" + "pat-" + m.of(URLSAFE, 20),
        "xo" + "xb-" + m.of(DIGITS, 12) + "-" + m.of(DIGITS, 12) + "-" + m.of(B62, 24),
        "https://hooks."
        "slack.com/services/T"
        + m.of(UPPER + DIGITS, 8)
        + "/B"
        + m.of(UPPER + DIGITS, 8)
        + "/"
        + m.of(B62, 24),
        "sk" + "_live_" + m.of(B62, m.pick(24, 99)),
        "sk" + "_test_" + m.of(B62, 24),
        "rk" + "_live_" + m.of(B62, 24),
        "wh" + "sec_" + m.of(B62, 32),
        "AI" + "za" + m.of(URLSAFE, 35),
        "GOC" + "SPX-" + m.of(URLSAFE, 28),
        "sk" + "-ant-api03-" + m.of(URLSAFE, 93) + "AA",
        "sk" + "-proj-" + m.of(URLSAFE, 74) + "T3Blbk" + "FJ" + m.of(URLSAFE, 74),
        "sk" + "-" + m.of(B62, 20) + "T3Blbk" + "FJ" + m.of(B62, 20),
        "sk" + "-" + m.of(HEX, 32),
        "hf" + "_" + m.of(string.ascii_letters, 34),
        "gs" + "k_" + m.of(B62, 52),
        "np" + "m_" + m.of(B62, 36),
        "py" + "pi-AgEIcHlwaS5vcmc" + m.of(URLSAFE, 120),
        "SG" + "." + m.of(URLSAFE, 22) + "." + m.of(URLSAFE, 43),
        "do" + "p_v1_" + m.of(HEX, 64),
        "shp" + "at_" + m.of(HEX, 32),
        "hv" + "s." + m.of(URLSAFE, 90),
        "gl" + "sa_" + m.of(B62, 32) + "_" + m.of(HEX, 8),
        m.of(DIGITS[1:], 10) + ":" + "AA" + m.of(URLSAFE, 33),
        discord_id + "." + m.of(B62, 6) + "." + m.of(B62, 30),
        header + "." + payload + "." + m.of(URLSAFE, 43),
        "SK" + m.of(HEX, 32),
        "dapi" + m.of(HEX, 32),
    )


def private_key(m: Maker) -> str:
    kind = m.pick("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ")
    body = base64.b64encode(m.random.randbytes(m.pick(120, 600, 1200))).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join(
        ["-----" + f"BEGIN {kind}PRIVATE KEY-----", *lines, "-----" + f"END {kind}PRIVATE KEY-----"]
    )


def wrap(m: Maker, text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# Positive templates: (file name, text with @ before the credential's line). Each takes a maker.
def assigned(m: Maker):
    name, value = m.named()
    q = m.pick('"', "'")
    return m.pick(
        ("strategy.py", f"@{name.replace('-', '_')} = {q}{value}{q}\n"),
        (
            "client.py",
            f"@client = Client({name.replace('-', '_')}={q}{value}{q}, timeout={m.number(1, 60)})\n",
        ),
        ("config.py", f"CONFIG = {{\n    'symbol': 'GOOG',\n@    {q}{name}{q}: {q}{value}{q},\n}}\n"),
        ("settings.py", f"class Settings:\n@    {name.replace('-', '_')}: str = {q}{value}{q}\n"),
        ("typed.py", f"@{name.replace('-', '_')}: Optional[str] = {q}{value}{q}  # live account\n"),
        ("config.json", json.dumps({"symbol": m.pick(*SYMBOLS), "nested": {name: value}})),
        ("nested.jsonl", json.dumps({"body": json.dumps({name: value}), "n": m.number(1, 9)})),
        (
            "report.json",
            '{\n  "status": "passed",\n@  ' + json.dumps(name) + ": " + json.dumps(value) + "\n}\n",
        ),
        ("config.yaml", f"exchange:\n  sandbox: false\n@  {name}: {value}\n"),
        ("quoted.yml", f"exchange:\n@  {name}: {q}{value}{q}\n"),
        ("deploy.yaml", f"env:\n  - name: {name.upper().replace('-', '_')}\n@    value: {q}{value}{q}\n"),
        ("pyproject.toml", f"[tool.bot]\n@{name} = {q}{value}{q}\n"),
        ("app.ini", f"[exchange]\n@{name} = {value}\n"),
        (".env", f"DEBUG=1\n@{name.upper().replace('-', '_')}={value}\n"),
        ("prod.env", f"@export {name.upper().replace('-', '_')}={q}{value}{q}\n"),
        ("run.sh", f"#!/bin/sh\n@export {name.upper().replace('-', '_')}={q}{value}{q}\npython run.py\n"),
        ("start.sh", f"@python bot.py --{name.lower().replace('_', '-')} {q}{value}{q} --symbol GOOG\n"),
        ("events.log", f"{m.date()} 10:00:01 INFO connecting\n@{m.date()} 10:00:02 DEBUG {name}={value}\n"),
        ("bot.log", f"@{m.date()}T10:00:02Z config loaded: {name}: {value}\n"),
        ("main.js", f"@const {name.replace('-', '_')} = {q}{value}{q};\n"),
        ("opts.ts", f"export const options = {{\n@  {name.replace('-', '_')}: {q}{value}{q},\n}};\n"),
        ("Main.java", f'@    private static final String {name.upper().replace("-", "_")} = "{value}";\n'),
        ("main.go", f'@\t{name.replace("-", "_")} := "{value}"\n'),
        ("settings.xml", f"<config>\n@  <{name}>{value.replace('<', '')}</{name}>\n</config>\n"),
        ("environ.py", f'import os\n@os.environ["{name.upper().replace("-", "_")}"] = "{value}"\n'),
        ("default.py", f'@key = os.getenv("{name.upper().replace("-", "_")}", "{value}")\n'),
        ("Dockerfile", f"FROM python:3.11\n@ENV {name.upper().replace('-', '_')}={value}\n"),
        ("conf.properties", f"broker.host=localhost\n@broker.{name}={value}\n"),
        ("Notebook.ipynb", json.dumps({"cells": [{"source": [f'{name.replace("-", "_")} = "{value}"\n']}]})),
        ("README.md", f"Set the variables:\n\n```\n@{name.upper().replace('-', '_')}={value}\n```\n"),
    )


def phrase(m: Maker):
    name = m.pick("password", "db_password", "PASSPHRASE", "wallet_password")
    return m.pick(
        ("login.py", f'@{name} = "{m.passphrase()}"\n'),
        ("login.yaml", f'@{name}: "{m.passphrase()}"\n'),
        ("login.json", json.dumps({name: m.passphrase()})),
    )


def prefixed(m: Maker):
    value = telling(m)
    return m.pick(
        ("notes.md", f"Use this one for now:\n@{value}\n"),
        ("main.py", f'import x\n@x.connect("{value}")\n'),
        ("data.json", json.dumps({"note": value, "n": 1})),
        ("run.log", f"@{m.date()} INFO using {value} for upload\n"),
        ("list.csv", f"id,value\n@{m.number(1, 999)},{value}\n"),
        ("trace.txt", f"@Authorization: Bearer {value}\n"),
        ("deploy.sh", f'@curl -H "X-Key: {value}" https://api.example.org/v1\n'),
        ("escaped.json", json.dumps({"log": f"first line\n{value}\nlast line"})),
        ("dump.bin", b"\x00\x01\xff\xfe" + value.encode() + b"\x00\x93NUMPY"),
    )


def keys(m: Maker):
    key = private_key(m)
    return m.pick(
        ("id_rsa", "@" + key + "\n"),
        ("key.py", '@KEY = """' + key + '"""\n'),
        (
            "account.json",
            json.dumps({"type": "service_account", "project_id": m.ident(), "private_key": key + "\n"}),
        ),
        (
            "secret.yaml",
            "key: |\n"
            + "\n".join(("@" if i == 0 else "") + "  " + line for i, line in enumerate(key.split("\n"))),
        ),
    )


def addresses(m: Maker):
    user, host, password = (
        m.pick(*WORDS),
        f"{m.pick(*WORDS)}.{m.pick('internal', 'io', 'net')}",
        m.of(B62, m.number(8, 20)),
    )
    scheme = m.pick("postgresql", "postgres", "mysql+pymysql", "mongodb+srv", "redis", "amqp", "https", "ftp")
    return m.pick(
        ("db.py", f'@engine = create_engine("{scheme}://{user}:{password}@{host}:5432/trades")\n'),
        (".env", f"@DATABASE_URL={scheme}://{user}:{password}@{host}/trades\n"),
        ("run.log", f"@ERROR cannot reach {scheme}://{user}:{password}@{host}\n"),
        ("compose.yaml", f"environment:\n@  REDIS_URL: redis://:{password}@{host}:6379/0\n"),
        ("run.sh", f"@curl -u {user}:{password} https://{host}/api\n"),
        ("req.py", f'@r = requests.get(url, auth=("{user}", "{password}"))\n'),
        ("head.txt", "@Authorization: Basic " + wrap(m, f"{user}:{password}") + "\n"),
        (
            "query.py",
            f'@requests.get("https://{host}/query?function=DAILY&apikey={m.of(UPPER + DIGITS, 16)}&symbol=GOOG")\n',
        ),
    )


def encoded(m: Maker):
    name, value = m.pick(
        ("api_key", m.of(B62, 32)),
        ("password", m.password()),
        ("AWS_ID", "AK" + "IA" + m.of(UPPER + DIGITS, 16)),
    )
    text = f'{name} = "{value}"\n'
    return m.pick(
        ("utf16.txt", ("first line\r\n" + text).encode("utf-16-le")),
        ("bom.txt", text.encode("utf-16")),
        ("be.txt", text.encode("utf-16-be")),
        ("blob.yaml", "@data: " + wrap(m, "x = 1\n" + text) + "\n"),
        ("key64.json", json.dumps({"blob": wrap(m, private_key(m))})),
        ("token64.txt", "@" + wrap(m, "gh" + "p_" + m.of(B62, 36)) + "\n"),
    )


def trading(m: Maker):
    broker = m.pick(*BROKERS)
    key, secret = m.of(B62, m.pick(32, 64)), m.of(B62, 64)
    return m.pick(
        ("ex.py", f'@exchange = ccxt.{broker}({{"apiKey": "{key}", "secret": "{secret}"}})\n'),
        ("cl.py", f'@client = {broker.capitalize()}Client("{key}", "{secret}")\n'),
        (
            "hd.py",
            f'@headers = {{"APCA-API-KEY-ID": "PK{m.of(UPPER + DIGITS, 18)}", "APCA-API-SECRET-KEY": "{m.of(B62, 40)}"}}\n',
        ),
        ("mb.py", f'@session.headers.update({{"X-MBX-APIKEY": "{key}"}})\n'),
        ("oa.py", f'@client = oandapyV20.API(access_token="{m.of(HEX, 32)}-{m.of(HEX, 32)}")\n'),
        ("kr.key", f"@api_key: {m.of(B64, 56)}\nsign: none\n"),
        ("eth.py", f'@PRIVATE_KEY = "0x{m.of(HEX, 64)}"\n'),
        ("seed.txt", '@mnemonic: "' + " ".join(m.random.choice(WORDS) for _ in range(12)) + '"\n'),
    )


POSITIVE = ((assigned, 12), (phrase, 1), (prefixed, 6), (keys, 2), (addresses, 3), (encoded, 2), (trading, 3))

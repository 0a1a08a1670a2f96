"""Artifacts that hold no credential and look as though they might: the negative half of the corpus."""

# A template reads best as the one line that it is.
# ruff: noqa: E501

from __future__ import annotations

import base64
import json
import struct

from tests.secrets.corpus import B62, BROKERS, DIGITS, HEX, SYMBOLS, UPPER, WORDS, Maker


def references(m: Maker):
    name = m.pick(m.key_name(), m.secret_name(), m.token_name(), m.password_name()).replace("-", "_")
    upper = name.upper()
    lines = (
        f'{name} = os.environ["{upper}"]',
        f"{name} = os.environ['{upper}']",
        f'{name} = os.getenv("{upper}")',
        f'{name} = os.environ.get("{upper}", "")',
        f'{name} = config["{name}"]',
        f'{name} = config.get("{name}")',
        f"self.{name} = {name}",
        f"client = Client({name}={name})",
        f"client = Client({name}=self.{name})",
        f"client = Client({name}=settings.{upper})",
        f'{name} = getpass.getpass("Enter {name}: ")',
        f"{name} = None",
        f'{name} = ""',
        f"def connect({name}: str, retries: int = 3) -> None:",
        f"    {name}: str",
        f"    {name}: Optional[str] = None",
        f'{name} = keyring.get_password("{m.ident()}", "{m.ident()}")',
        f'{name} = load_secret("{m.ident()}")',
        f"{name} = args.{name}",
        f'parser.add_argument("--{name}", help="the {name} to use")',
        f"if not {name}:",
        f'raise ValueError("{name} is required")',
        f"del {name}",
        f"{name} = read_file(path).strip()",
        f'{name} = vault.read("secret/data/{m.ident()}")["{name}"]',
        f'print(f"{name}: {{{name}}}")',
        f"{name} = secrets.token_hex(16)",
        f"assert {name} is not None",
        f"return {name}",
        f"{name} = request.headers['Authorization']",
        f"{name} = base64.b64decode(encoded_{name})",
        f"{name} = await fetch_{name}(session)",
        f"    {name} = Column(String(255))",
        f"{name}=_decrypt(row.{name})",
        f"const {name} = process.env.{upper};",
        f"{name}: process.env.{upper},",
        f'logger.debug("no {name} configured")',
        f"{name} = credentials.{name}",
        f"    {name}={name},",
    )
    return m.pick("strategy.py", "client.py", "loader.py"), "\n".join(m.random.sample(lines, 4)) + "\n"


def placeholders(m: Maker):
    name = m.pick(m.key_name(), m.secret_name(), m.token_name(), m.password_name())
    stand_in = m.pick(
        "changeme",
        "your-api-key",
        "YOUR_API_KEY",
        "xxxxxxxxxxxxxxxx",
        "<your-key>",
        "${" + name.upper() + "}",
        "{{ " + name + " }}",
        "********",
        "REDACTED",
        "[REDACTED]",
        "your_password_here",
        "replace-me",
        "...",
        "todo".upper(),
        "example",
        "my-example-key",
        "insert-key-here",
        "%(" + name + ")s",
        "{" + name.replace("-", "_") + "}",
        "<password>",
        "placeholder",
        "null",
        "none",
        "XXXX-XXXX-XXXX",
        "$" + name.upper().replace("-", "_"),
        "dummy",
        "fake-token",
        "changeit",
        "not-set",
        "sk" + "_live_xxxxxxxxxxxxxxxx",
        "test",
        "password",
        "secret",
        "your-secret-key-goes-here",
        "ENC[AES256_GCM,data:abc]",
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:x",
        "op://vault/item/field",
        "vault:secret/data/bot#key",
        "/run/secrets/" + m.ident(),
        "~/.keys/" + m.ident() + ".json",
    )
    q = m.pick('"', "'")
    return m.pick(
        ("config.py", f"{name.replace('-', '_')} = {q}{stand_in}{q}\n"),
        ("config.json", json.dumps({name: stand_in})),
        ("config.yaml", f"{name}: {q}{stand_in}{q}\n"),
        (".env.example", f"{name.upper().replace('-', '_')}={stand_in}\n"),
        ("README.md", f"```\nexport {name.upper().replace('-', '_')}={stand_in}\n```\n"),
    )


def prose(m: Maker):
    name = m.pick("password", "API key", "token", "secret", "api_key", "credential")
    return m.pick(
        ("notes.md", f"The {name} is read from the environment and never written to disk.\n"),
        ("a.py", f'"""Connects with the {name}: see the documentation of the exchange for its scope."""\n'),
        ("b.py", f"# {name}: must be set before the first call\n"),
        ("run.log", f"{m.date()} WARN {name} missing, falling back to paper trading\n"),
        ("run.log", f"{m.date()} ERROR invalid {name}: authentication failed for user {m.pick(*WORDS)}\n"),
        (
            "run.log",
            f"{m.date()} INFO {name} refreshed successfully, expires in {m.number(10, 9999)} seconds\n",
        ),
        ("c.py", f'    password: "Password must have at least {m.number(8, 16)} characters"\n'),
        (
            "i18n.json",
            json.dumps(
                {
                    "password": "Please enter your password",
                    "token": "Access token",
                    "secret": "Keep it secret",
                }
            ),
        ),
        ("d.yaml", f"password:\n  description: {name} of the broker account\n  required: true\n"),
        ("e.md", f"Set `{name}` to the value that the broker shows after login.\n"),
        (
            "f.py",
            '"""Args:\n    api_key: Key of the account, from its settings page.\n    password (str): Password of the user.\n"""\n',
        ),
        (
            "g.toml",
            'password_env = "IBKR_PASSWORD"\ntoken_file = "/etc/bot/token"\napi_key_name = "primary"\n',
        ),
        (
            "schema.json",
            json.dumps(
                {
                    "properties": {
                        "password": {"type": "string", "format": "password"},
                        "token": {"type": "string"},
                    }
                }
            ),
        ),
        ("log.txt", f"password for {m.pick(*WORDS)}: accepted\ntoken: expired\npassword: [hidden]\n"),
        (
            "h.html",
            '<input type="password" name="password" placeholder="Password" autocomplete="current-password">\n',
        ),
        (
            "i.sql",
            "CREATE TABLE users (id int, password VARCHAR(255) NOT NULL, token TEXT, secret_key BYTEA);\n",
        ),
        ("j.yaml", "secretName: bot-tls\nsecretKeyRef:\n  name: bot-secrets\n  key: api-key\n"),
        ("k.py", 'PASSWORD_FIELD = "password"\nTOKEN_HEADER = "X-Auth-Token"\nSECRET_NAME = "prod/bot/db"\n'),
        (
            "l.js",
            'document.querySelector("#password").value = form.password.value;\nconst tokenType = "Bearer";\n',
        ),
        (
            "m.py",
            'log.info("token=%s", mask(token))\nlog.info("password changed for %s", user)\nurl = f"{base}?token={token}"\n',
        ),
    )


def models(m: Maker):
    count = m.number(10, 9000)
    return m.pick(
        (
            "events.jsonl",
            json.dumps(
                {
                    "token_count": count,
                    "max_tokens": 4096,
                    "prompt_tokens": count,
                    "model": "gpt-4-turbo-2024-04-09",
                }
            ),
        ),
        (
            "tok.py",
            f"tokens = tokenizer.encode(text)\nmax_tokens = {count}\nfor token in tokens:\n    vocab[token] += 1\n",
        ),
        (
            "special.json",
            json.dumps(
                {
                    "pad_token": "<pad>",
                    "eos_token": "</s>",
                    "unk_token": "[UNK]",
                    "bos_token": "<|begin_of_text|>",
                }
            ),
        ),
        (
            "cfg.yaml",
            f"tokenizer: cl100k_base\ntoken_limit: {count}\nstop_token: END_OF_TURN\ntoken_type: bearer\n",
        ),
        (
            "lexer.py",
            'if token == "IDENTIFIER_NAME":\n    token = self.next_token()\ntoken_type = Token.KEYWORD_ARGUMENT\n',
        ),
        (
            "hf.py",
            'tok = AutoTokenizer.from_pretrained("meta-llama/Llama-3.1-8B")\nsep_token = tok.sep_token\n',
        ),
        (
            "usage.log",
            f"{m.date()} usage prompt_tokens={count} completion_tokens={count // 2} total_tokens={count * 3 // 2}\n",
        ),
        (
            "coin.json",
            json.dumps(
                {"token": "USDC", "token_address": "0x" + m.of(HEX, 40), "token_id": m.of(DIGITS[1:], 40)}
            ),
        ),
        ("swap.py", f'TOKEN = "0x{m.of(HEX, 40)}"\nbase_token = "WETH"\nquote_token = "USDT"\n'),
        (
            "kite.json",
            json.dumps(
                {
                    "instrument_token": m.number(10**5, 10**7),
                    "exchange_token": str(m.number(1000, 99999)),
                    "next_page_token": m.of(B62, 24),
                }
            ),
        ),
    )


def identifiers(m: Maker):
    return m.pick(
        (
            "metadata.json",
            json.dumps(
                {
                    "prompt_hash": m.of(HEX, 64),
                    "commit_sha": m.of(HEX, 40),
                    "run_id": m.uuid(),
                    "event_id": "evt_" + m.of(HEX, 12),
                }
            ),
        ),
        (
            "manifest.yaml",
            f"digest: sha256:{m.of(HEX, 64)}\netag: {m.of(HEX, 32)}\ncommit: {m.of(HEX, 40)}\n",
        ),
        (
            "git.log",
            f"commit {m.of(HEX, 40)}\nAuthor: bot <bot@example.org>\nDate: {m.date()}\n\n    Add artifacts\n",
        ),
        (
            "ids.py",
            f'RUN_ID = "{m.uuid()}"\nCHECKSUM = "{m.of(HEX, 64)}"\npassword_hash = "{m.of(HEX, 64)}"\ntoken_hash = "{m.of(HEX, 32)}"\n',
        ),
        ("lock.txt", f"numpy==2.1.0 --hash=sha256:{m.of(HEX, 64)}\n"),
        (
            "lock.json",
            json.dumps(
                {
                    "integrity": "sha512-" + base64.b64encode(m.random.randbytes(64)).decode(),
                    "resolved": "https://npm.example.org/x",
                }
            ),
        ),
        (
            "trace.log",
            f"{m.date()}T10:00:00Z trace_id={m.of(HEX, 32)} span_id={m.of(HEX, 16)} correlation_id=corr_{m.of(HEX, 12)}\n",
        ),
        (
            "order.json",
            json.dumps(
                {"order_id": m.uuid(), "client_order_id": "x-" + m.of(B62, 22), "cache_key": m.of(HEX, 32)}
            ),
        ),
        (
            "keys.py",
            f'primary_key = "trade_id"\nsort_key = "{m.ident()}"\nforeign_key = "strategies.id"\nfor key, value in d.items():\n    pass\n',
        ),
        (
            "public.pem",
            "-----BEGIN PUBLIC KEY-----\n"
            + base64.b64encode(m.random.randbytes(48)).decode()
            + "\n-----END PUBLIC KEY-----\n",
        ),
        ("cert.py", 'if "-----BEGIN ' + 'PRIVATE KEY-----" in text:\n    raise ValueError("no keys here")\n'),
        ("ssh.pub", "ssh-ed25519 " + base64.b64encode(m.random.randbytes(51)).decode() + " bot@host\n"),
        (
            "secret.yaml",
            f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {m.ident().replace('_', '-')}\nsecretRef: {m.ident()}-credentials\n",
        ),
        ("kv.json", json.dumps({"key": m.ident(), "value": m.of(HEX, 32)})),
        (
            "contract.json",
            json.dumps(
                {
                    "contract": "0x" + m.of(HEX, 40),
                    "tx_hash": "0x" + m.of(HEX, 64),
                    "public_key": m.of(HEX, 64),
                }
            ),
        ),
    )


def numbers(m: Maker):
    rows = [
        f"{m.date()} 09:{m.number(10, 59)}:00,{m.random.random() * 500:.6f},{m.random.gauss(0, 1):.10f},{m.number(1, 9999)}"
        for _ in range(30)
    ]
    array = struct.pack("<40d", *(m.random.gauss(100, 5) for _ in range(40)))
    return m.pick(
        ("trades.csv", "time,price,pnl,size\n" + "\n".join(rows) + "\n"),
        ("tokens.csv", "token,password_strength,secret_score\n" + "\n".join(rows) + "\n"),
        ("equity_curve.csv", "time,Equity,DrawdownPct,Duration\n" + "\n".join(rows) + "\n"),
        (
            "plot.json",
            json.dumps({"data": base64.b64encode(array).decode(), "dtype": "float64", "shape": [40]}),
        ),
        ("array.npy", b"\x93NUMPY\x01\x00v\x00" + array),
        (
            "png.html",
            '<img src="data:image/png;base64,' + base64.b64encode(m.random.randbytes(300)).decode() + '">\n',
        ),
        (
            "report.json",
            json.dumps(
                {
                    "sharpe": m.random.gauss(1, 1),
                    "win_rate": m.random.random(),
                    "trades": m.number(1, 999),
                    "seed": m.number(1, 2**31),
                }
            ),
        ),
        (
            "events.log",
            "\n".join(
                f"{m.date()}T10:00:00Z FILL {m.pick(*SYMBOLS)} {m.number(1, 99)} @ {m.random.random() * 99:.4f} id={m.number(1, 10**6)}"
                for _ in range(20)
            ),
        ),
        ("utf16.txt", "The password is kept elsewhere. token_count = 12\r\n".encode("utf-16")),
    )


def code(m: Maker):
    word = m.ident()
    return m.pick(
        (
            "s.py",
            f"import pandas as pd\n\n\nclass {word.title().replace('_', '')}Strategy(Strategy):\n    fast = {m.number(5, 20)}\n    slow = {m.number(21, 90)}\n\n    def next(self):\n        if crossover(self.sma1, self.sma2):\n            self.buy()\n",
        ),
        (
            "urls.py",
            f'URL = "https://api.{m.pick(*BROKERS)}.com/v3/klines?symbol={m.pick("GOOG", "BTCUSDT")}&interval=1d"\nREDIS = "redis://localhost:6379/0"\n',
        ),
        (
            "dburl.py",
            'DB = f"postgresql://{user}:{password}@{host}:5432/trades"\nDB2 = "postgresql://user:password@localhost/db"\n',
        ),
        (
            "dburl.yaml",
            'url: "postgres://${DB_USER}:${DB_PASSWORD}@db:5432/trades"\nother: "mysql://root:<password>@db/x"\n',
        ),
        (
            "verify.py",
            'if password == confirm_password:\n    pass\nassert token.startswith("ey")\nif api_key == "":\n    raise SystemExit(1)\n',
        ),
        (
            "regex.py",
            'PATTERN = re.compile(r"(api_key|password)\\s*[=:]\\s*([A-Za-z0-9]{16,})")\nTOKEN_RE = r"[A-Za-z0-9_-]{20,}"\n',
        ),
        (
            "header.py",
            'headers = {"Authorization": f"Bearer {token}", "X-Api-Key": api_key}\nheaders["Authorization"] = "Bearer " + token\n',
        ),
        (
            "exc.py",
            'class InvalidTokenError(Exception):\n    """Raised for a bad token."""\n\nTOKEN_EXPIRED_MESSAGE = "token has expired"\n',
        ),
        (
            "columns.py",
            'COLUMNS = ["token", "password", "api_key", "secret_key", "created_at"]\nRENAME = {"password": "user_password", "token": "auth_token"}\n',
        ),
        (
            "test.py",
            'mock_client = Mock(api_key="test", api_secret="test")\nclient = Client(api_key="dummy-key", password="dummy")\n',
        ),
        (
            "perm.yaml",
            "permissions:\n  id-token: write\n  contents: read\nwith:\n  token: ${{ secrets.GITHUB_TOKEN }}\n",
        ),
        (
            "names.py",
            f'strategy = "{word}_v{m.number(1, 9)}"\nkey = "{m.pick("GOOG", "AAPL")}_{m.number(10, 99)}_{m.number(10, 99)}"\nsecret_level = "high"\n',
        ),
        ("pass.log", f"test_{word} PASSED\npass: {m.number(1, 99)} fail: 0\npass_rate: 0.98\npassed: true\n"),
        (
            "client.py",
            f'client = {m.pick(*BROKERS).capitalize()}Client("{m.pick("production-environment", "https://api.example.org")}")\n',
        ),
        (
            "curl.sh",
            'curl -u "$USER:$PASSWORD" https://api.example.org\ncurl -H "Authorization: Bearer $TOKEN" https://api.example.org\n',
        ),
        ("cli.sh", 'mycli --password "$PASSWORD" --token $(cat token.txt) --api-key ${API_KEY}\n'),
        ("bcrypt.py", f'hashed_password = "$2b$12${m.of(B62, 53)}"\n'),
        (
            "tick.csv",
            "symbol,isin,cusip\n"
            + "\n".join(f"{m.of(UPPER, 4)},US{m.of(DIGITS, 10)},{m.of(UPPER + DIGITS, 9)}" for _ in range(9))
            + "\n",
        ),
    )


NEGATIVE = (
    (references, 8),
    (placeholders, 7),
    (prose, 6),
    (models, 4),
    (identifiers, 5),
    (numbers, 4),
    (code, 6),
)

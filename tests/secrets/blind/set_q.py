"""Blind set Q: the tools around a desk's code, in other languages than its strategies.

Condensed from two corpora: the first was written before a look at the rules it tries, the second by one who had read and
mended them, before a look at what they make of it.
"""

# A template reads best as the one line that it is.
# ruff: noqa: E501

from __future__ import annotations

import json

from tests.secrets.blind.surroundings import env, js, log, md, method, nb, py, sh
from tests.secrets.corpus import HEX, LOWER, UPPER

SIGNS = "!@#%^&*(-_=+)"


def scrambled(m):
    """Return a signing key as web frameworks draw it."""
    return m.s("".join(m.of(LOWER + LOWER + SIGNS, 3) + m.of(LOWER + "0123456789", 2) for _ in range(10)))


# fmt: off
WITH = (
    ("Client.java", lambda m: f'public final class Client {{\n    private static final String {m.pick("API_KEY", "BYBIT_SECRET", "AUTH_TOKEN")} = "{m.key(36)}";\n    private int qty = 10;\n}}\n'),
    ("Client.java", lambda m: f'var client = Client.builder()\n        .apiSecret("{m.key(64)}")\n        .timeout(10)\n        .build();\n'),
    ("Client.java", lambda m: f'System.setProperty("exchange.api_key", "{m.key(40)}");\nheaders.put("X-Api-Key", key);\n'),
    ("main.go", lambda m: f'package main\n\nconst krakenSecret = "{m.b64(64)}"\n\nfunc main() {{ run() }}\n'),
    ("main.go", lambda m: f'\treq, _ := http.NewRequest("GET", url, nil)\n\treq.Header.Set("X-API-Key", "{m.key(32)}")\n'),
    ("main.go", lambda m: f'\treq.SetBasicAuth("etl", "{m.word_pw()}")\n\tres, err := client.Do(req)\n'),
    ("Bt.cs", lambda m: f'    public string ApiSecret {{ get; set; }} = "{m.key(40)}";\n    public int Port {{ get; set; }} = 7497;\n'),
    ("Bt.cs", lambda m: f'var cs = "Server=sql01;Database=ticks;User Id=etl;Password={m.rand_pw(12)};Encrypt=true";\n'),
    ("main.rs", lambda m: f'const API_SECRET: &str = "{m.key(64)}";\nlet url = String::from("https://x.io");\n'),
    ("fetch.R", lambda m: f"library(httr)\nSys.setenv(TIINGO_API_KEY = '{m.hex(40)}')\nx <- fetch('AAPL')\n"),
    ("run.js", lambda m: f"const client = new Binance().options({{ APIKEY: '{m.plain_key(64)}', APISECRET: '{m.key(64)}' }});\n"),
    ("run.js", lambda m: f"axios.defaults.headers.common['X-API-KEY'] = '{m.key(32)}';\naxios.get(url);\n"),
    ("run.ps1", lambda m: f"$env:BROKER_TOKEN = '{m.key(40)}'\npython run.py\n"),
    ("run.ps1", lambda m: f"$sec = ConvertTo-SecureString '{m.word_pw()}' -AsPlainText -Force\n$cred = New-Object PSCredential('etl', $sec)\n"),
    ("main.tf", lambda m: f'resource "aws_db_instance" "ticks" {{\n  username = "etl"\n  password = "{m.rand_pw(16)}"\n}}\n'),
    ("main.tf", lambda m: f'variable "db_password" {{\n  type    = string\n  default = "{m.rand_pw(14)}"\n}}\n'),
    ("site.yml", lambda m: f"- hosts: workers\n  vars:\n    oanda_token: '{m.s(m.of(HEX, 32) + '-' + m.of(HEX, 32))}'\n    workers: 4\n"),
    ("site.yml", lambda m: f"    - mysql_user: name=etl password={m.rand_pw(14)} state=present\n      no_log: true\n"),
    ("hosts.ini", lambda m: f"[workers]\nworker1 ansible_host=10.0.0.4 ansible_user=bt ansible_password={m.rand_pw(13)}\n"),
    ("nightly.yml", lambda m: f"jobs:\n  bt:\n    env:\n      POLYGON_API_KEY: {m.key(32)}\n      LOG_LEVEL: info\n"),
    ("nightly.yml", lambda m: f"      - run: export FEED_TOKEN={m.hex(40)} && make bt\n"),
    ("calls.http", lambda m: f"GET https://api.x.io/v3/account HTTP/1.1\nHost: api.x.io\nX-MBX-APIKEY: {m.key(64)}\n"),
    ("calls.http", lambda m: f"GET https://api.x.io/v3/account HTTP/1.1\nAuthorization: Token {m.hex(40)}\nAccept: */*\n"),
    ("calls.http", lambda m: f"GET /fills HTTP/1.1\nCookie: sessionid={m.low(32)}; theme=dark\n"),
    ("events.jsonl", lambda m: json.dumps({"ts": 1, "msg": "start"}) + "\n" + json.dumps({"ts": 2, "config": {"bitmex_api_secret": m.key(48)}}) + "\n"),
    ("events.jsonl", lambda m: json.dumps({"ts": 2, "msg": f"connect db_password={m.rand_pw(14)}"}) + "\n"),
    ("crash.log", lambda m: f"Traceback (most recent call last):\n  File \"run.py\", line 8, in main\n    s = Settings(host='db', api_secret='{m.key(40)}', retries=3)\nAuthenticationError: invalid api key\n"),
    ("crash.log", lambda m: log(m, f"could not connect: postgresql://etl:{m.low(14)}@db-3:5432/ticks", level="ERROR")),
    ("site.conf", lambda m: f"server {{\n  listen 443 ssl;\n  proxy_set_header X-Api-Key {m.key(32)};\n}}\n"),
    ("crontab", lambda m: f"MAILTO=ops@x.io\n0 2 * * * cd /opt/bt && API_TOKEN={m.key(32)} ./run.sh\n"),
    ("secret.yaml", lambda m: f"apiVersion: v1\nkind: Secret\nstringData:\n  KRAKEN_API_SECRET: {m.b64(64)}\n"),
    ("calls.json", lambda m: f'{{"auth": {{"type": "apikey", "apikey": [\n  {{"key": "value", "value": "{m.key(40)}", "type": "string"}},\n  {{"key": "key", "value": "X-API-Key"}}\n]}}}}\n'),
    ("pip.conf", lambda m: f"[global]\nextra-index-url = https://etl:{m.low(16)}@pypi.x.io/simple\n"),
    ("settings.xml", lambda m: f"<settings><servers><server>\n  <id>nexus</id>\n  <password>{m.rand_pw(14)}</password>\n</server></servers></settings>\n"),
    ("app.config", lambda m: f'<appSettings>\n  <add key="OandaToken" value="{m.s(m.of(HEX, 32) + "-" + m.of(HEX, 32))}" />\n</appSettings>\n'),
    ("my.cnf", lambda m: f"[client]\nuser=etl\npassword={m.rand_pw(14)}\n"),
    ("feed.properties", lambda m: f"feed.data.api.key={m.hex(32)}\nfeed.data.symbols=GOOG,AAPL\n"),
    ("web.toml", lambda m: f'[web]\nsecret_key = "{scrambled(m)}"\ndebug = false\n'),
    ("settings.py", lambda m: py(m, f"SECRET_KEY = '{scrambled(m)}'\nALLOWED_HOSTS = []\n")),
    ("fetch.ipynb", lambda m: nb(m, f'key = os.getenv("{m.pick("TIINGO", "POLYGON", "FEED")}_API_KEY", "{m.key(32)}")', "fetch(key)")),
    ("fetch.ipynb", lambda m: nb(m, f'monkeypatch.setenv("KUCOIN_API_KEY", "{m.hex(24)}")', "run()")),
    ("fetch.py", lambda m: py(m, f'ftp = FTP("ftp.x.io", "etl", "{m.word_pw()}")\nftp.cwd("bars")\n')),
    ("fetch.py", lambda m: method(m, f'smtp.login("bot@x.io", "{m.word_pw()}")\n')),
    ("fetch.py", lambda m: py(m, f'session.headers.update({{"X-CMC_PRO_API_KEY": "{m.s(m.uuid())}"}})\n')),
    ("fetch.py", lambda m: py(m, f'bars = pd.read_json("https://api.x.io/prices?token={m.hex(40)}")\n')),
    ("fetch.py", lambda m: py(m, f'db = InfluxDBClient(url="http://influx:8086", token="{m.safe(86)}==", org="bt")\n')),
    (".env", lambda m: env(m, f"{m.pick('TIMESCALE', 'CLICKHOUSE', 'QUESTDB')}_PASS='{m.word_pw()}'\n")),
    ("run.sh", lambda m: sh(m, f"docker run -e {m.pick('FINNHUB', 'ALPACA')}_API_KEY={m.caps(24)} quant/bt:latest\n")),
    ("notes.md", lambda m: md(m, f"- db password: {m.rand_pw(14)}\n")),
)

WITHOUT = (
    ("Client.java", lambda m: f'    private final String apiKey;\n    public String getApiKey() {{ return apiKey; }}\n    static final String COMMIT = "{m.plain_hex(40)}";\n'),
    ("Client.java", lambda m: '    String token = System.getenv("TOKEN");\n    @Value("${exchange.api-key}") private String apiKey;\n'),
    ("Client.java", lambda m: '    String password = new String(console.readPassword("Password: "));\n    static final String TOKEN_TYPE = "Bearer";\n'),
    ("main.go", lambda m: f'apiKey := os.Getenv("API_KEY")\nconst commit = "{m.plain_hex(40)}"\ntoken, err := auth.Token(ctx)\n'),
    ("main.go", lambda m: 'type DB struct {\n\tPassword string `yaml:"password" env:"DB_PASSWORD"`\n\tSecretName string\n}\n'),
    ("main.go", lambda m: '\treq.SetBasicAuth(cfg.User, cfg.Password)\n\treq.SetBasicAuth("user", "password")\n'),
    ("Bt.cs", lambda m: 'public string ApiKey { get; set; }\nvar token = Environment.GetEnvironmentVariable("TOKEN");\n'),
    ("Bt.cs", lambda m: f'const string Hash = "{m.plain_hex(64)}";\nvar id = Guid.Parse("{m.uuid()}");\nthrow new InvalidOperationException("API key missing");\n'),
    ("main.rs", lambda m: f'let key = env::var("API_KEY")?;\nconst REV: &str = "{m.plain_hex(40)}";\n'),
    ("fetch.R", lambda m: "key <- Sys.getenv('TIINGO_API_KEY')\ntoken_count <- 12\nkeys <- c('open', 'close')\n"),
    ("run.js", lambda m: "const token = process.env.TOKEN;\nconst cfg = { apiKey: process.env.BYBIT_KEY, tokenDecimals: 18 };\n"),
    ("run.ps1", lambda m: '$apiKey = $env:API_KEY\n$pw = Read-Host "Password" -AsSecureString\n$s = ConvertTo-SecureString $env:PW -AsPlainText -Force\n'),
    ("run.ps1", lambda m: f'$cred = Get-Credential\n$hash = "{m.plain_hex(64)}"\nWrite-Host "token expired"\n'),
    ("main.tf", lambda m: f'  password         = var.db_password\n  source_code_hash = "{m.plain_b64(32)}"\n  key_name         = "bt-deploy"\n'),
    ("main.tf", lambda m: f'  kms_key_id  = "arn:aws:kms:eu-west-1:{m.number(10**11, 10**12 - 1)}:key/{m.uuid()}"\n  secret_name = "prod/binance"\n'),
    ("site.yml", lambda m: '    db_password: "{{ vault_db_password }}"\n    token_path: /etc/bt/token\n    ssh_key_file: ~/.ssh/id_ed25519\n'),
    ("site.yml", lambda m: f"    checksum: sha256:{m.plain_hex(64)}\n    secret_backend: hashicorp\n"),
    ("nightly.yml", lambda m: "    env:\n      API_KEY: ${{ secrets.API_KEY }}\n      TOKEN: ${{ github.token }}\n"),
    ("nightly.yml", lambda m: f"      # bars of Polygon and Binance\n      - uses: actions/cache@{m.plain_hex(40)}\n        with:\n          key: pip-{m.plain_hex(64)}\n"),
    ("nightly.yml", lambda m: '          key: bt-${{ hashFiles("**/*.lock") }}\n          token: ${{ steps.app.outputs.token }}\n'),
    ("calls.http", lambda m: f"GET https://api.x.io/v3/account HTTP/1.1\nX-Request-Id: {m.uuid()}\nAuthorization: Bearer {{{{token}}}}\n"),
    ("calls.http", lambda m: f'HTTP/1.1 200 OK\nETag: "{m.plain_hex(32)}"\nX-RateLimit-Token: 41\n'),
    ("events.jsonl", lambda m: json.dumps({"msg": "token refreshed", "expires_in": 1800}) + "\n" + json.dumps({"api_key": "***", "secret": None}) + "\n"),
    ("events.jsonl", lambda m: json.dumps({"usage": {"prompt_tokens": 812}}) + "\n" + json.dumps({"msg": "cache", "key": m.plain_hex(40)}) + "\n"),
    ("events.jsonl", lambda m: json.dumps({"token": "WETH", "address": "0x" + m.plain_hex(40)}) + "\n"),
    ("crash.log", lambda m: f"Settings(name='bt', run_id=UUID('{m.uuid()}'), commit='{m.plain_hex(40)}')\n    token = None\n    api_key = '***'\n"),
    ("crash.log", lambda m: log(m, "auth failed: invalid api key or permissions (code=-2015)", level="ERROR")),
    ("crash.log", lambda m: log(m, f"8=FIX.4.4|35=D|49=BT|56=EXCH|11={m.plain_hex(16)}|55=AAPL|10=0{m.number(10, 99)}|", level="DEBUG")),
    ("site.conf", lambda m: "  ssl_certificate_key /etc/ssl/private/bt.key;\n  proxy_set_header X-Api-Key $http_x_api_key;\n"),
    ("crontab", lambda m: "5 * * * * /opt/bt/rotate-token --keep 7\n"),
    ("calls.json", lambda m: f'{{"info": {{"_postman_id": "{m.uuid()}"}}, "auth": {{"apikey": [{{"key": "value", "value": "{{{{apiKey}}}}"}}]}}}}\n'),
    ("pip.conf", lambda m: "[global]\nindex-url = https://__token__:${PYPI_TOKEN}@pypi.x.io/simple\n"),
    ("app.config", lambda m: '<add key="TokenLifetime" value="3600" />\n<secretRef>binance</secretRef>\n'),
    ("feed.properties", lambda m: "token.endpoint=https://x.io/token\nssl.key=/etc/ssl/private/bt.key\npassword=\n"),
    ("web.toml", lambda m: 'secret_patterns = ["(?i)api[_-]?key\\\\s*=\\\\s*\\\\S+"]\nformat_key = "%(asctime)s-%(levelname)s-%(message)s"\n'),
    ("settings.py", lambda m: py(m, 'SECRET_FIELDS = {"api_key", "secret", "password"}\nAPI_KEY_HEADER = "X-MBX-APIKEY"\n')),
    ("settings.py", lambda m: py(m, 'PASSWORD_RULES = "min 12 chars, one digit"\nTOKEN_URL = "https://api.x.io/v1/oauth/token"\n')),
    ("fetch.py", lambda m: py(m, f'key = hashlib.sha256(b"{m.plain_hex(40)}").hexdigest()\ntoken = re.sub(r"\\s+", "", raw)\n')),
    ("fetch.py", lambda m: py(m, 'ftp = FTP("ftp.x.io", "anonymous", "anonymous")\nftp = FTP(host, user, password)\n')),
    ("fetch.py", lambda m: py(m, 'creds = Credentials.from_file("/etc/bt/creds.json")\nclass TokenBucket:\n    rate = 41.5\n')),
    ("fetch.py", lambda m: py(m, 'api_key = st.text_input("API key", type="password")\nhelp_text = "API token, see https://docs.x.io/auth#token"\n')),
    ("fetch.py", lambda m: py(m, 'if "password" in record:\n    record["password"] = "***"\n')),
    ("fetch.py", lambda m: py(m, f'SESSION_ID = "{m.uuid()}"\ndigest = "sha256:{m.plain_hex(64)}"\n')),
    ("fetch.ipynb", lambda m: nb(m, 'key = os.getenv("FEED_API_KEY", "")', 'fetch(os.environ.get("FEED_TOKEN"))', output="<Feed open>")),
    ("fetch.ipynb", lambda m: nb(m, 'config.get("cache_key", "bars:GOOG:1h")', "tokens.sum()")),
    (".env", lambda m: env(m, "API_SECRET=op://Trading/Binance/secret\nDB_PASS=${DB_PASS}\nACCESS_TOKEN_EXPIRE_MINUTES=30\n")),
    (".env", lambda m: env(m, f"GPG_KEY_ID=0x{m.of('0123456789ABCDEF', 16)}\nCORRELATION_ID=corr_{m.plain_hex(12)}\n")),
    ("run.sh", lambda m: sh(m, 'docker login -u "$USER" --password-stdin < /run/secrets/registry\nmysql -u root -p"$MYSQL_PW" < schema.sql\n')),
    ("run.sh", lambda m: sh(m, 'read -rsp "Password: " PASSWORD\nexport KEY="$(vault kv get -field=key secret/binance)"\n')),
    ("run.sh", lambda m: sh(m, '[[ -n "${API_KEY:-}" ]] || { echo "API_KEY is not set" >&2; exit 2; }\n')),
    ("notes.md", lambda m: md(m, "- raise the API rate limit\n- token budget for the agent: 8k\n- password: ask Ann\n")),
    ("trades.csv", lambda m: "ts,token,secret_score,key\n" + "".join(f"{m.number(10**9, 2 * 10**9)},{m.pick('WETH', 'USDC')},0.{m.number(1000, 9999)},{m.of(LOWER, 24)}\n" for _ in range(10))),
    ("ids.json", lambda m: js(m, {"integrity": "sha512-" + m.plain_b64(64), "public_key": "04" + m.plain_hex(128), "client_id": m.uuid()})),
    ("flags.csv", lambda m: "id,api_key_id,rotated\n" + "".join(f"{m.number(1, 99)},{m.uuid()},true\n" for _ in range(6)) if m.number(0, 1) else f"uuid,tx_hash\n{m.uuid()},0x{m.plain_hex(64)}\n"),
    ("coefs.py", lambda m: py(m, f"weights = '{m.plain_b64(160)}'\nsecret_sauce_window = {m.number(5, 200)}\nSEED = 0x{m.of(HEX, 16)}\n")),
    ("names.txt", lambda m: "".join(f"{m.of(UPPER, 3)}USDT {m.number(1, 9999)}\n" for _ in range(20))),
)

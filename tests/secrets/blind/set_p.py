"""Blind set P: generated strategies and what lies beside them, in whole files, written without sight of the rules."""

# A template reads best as the one line that it is.
# ruff: noqa: E501, S608

from __future__ import annotations

import base64
import json
import textwrap

from tests.secrets.blind.surroundings import env, js, log, md, method, nb, py, sh, sql, yaml
from tests.secrets.corpus import B62, B64, DIGITS, HEX, LOWER, SYMBOLS, UPPER, URLSAFE, WORDS

_NAMES = ("MeanReversion", "DonchianBreakout", "PairsSpread", "VolTarget", "RsiPullback", "TrendFilter")


_MODULES = (
    "base64",
    "ccxt",
    "getpass",
    "hashlib",
    "hmac",
    "keyring",
    "operator",
    "os",
    "pyotp",
    "requests",
    "uuid",
)


def _imports(text: str) -> list[str]:
    return [f"import {name}" for name in _MODULES if f"{name}." in text]


def _strategy(m, *, top: str = "", init: str = "", bar: str = "", end: str = "") -> str:
    """A strategy as a model writes it, with text at one of four places."""
    name = m.pick(*_NAMES)
    lines = [
        '"""', f"{name} strategy.", "", f"Enters when the z-score of the close falls below -{m.number(1, 3)}.{m.number(0, 9)} and leaves at the mean.",
        "All parameters live in `Params`; no look-ahead, signals are shifted by one bar.", '"""', "", "from __future__ import annotations", "",
        *_imports(top + init + bar + end), "from dataclasses import dataclass", "", "import numpy as np", "import pandas as pd", "",
    ]  # fmt: skip
    lines += [top.rstrip("\n"), ""] if top else []
    lines += [
        "", "@dataclass", "class Params:", f"    lookback: int = {m.number(5, 200)}", f"    entry_z: float = {m.number(10, 30) / 10}", "    exit_z: float = 0.0",
        f"    risk_per_trade: float = 0.0{m.number(1, 9)}", "", "", f"class {name}:", f'    symbol = "{m.pick(*SYMBOLS)}"', "",
        "    def __init__(self, params: Params | None = None) -> None:", "        self.params = params or Params()", "        self.position = 0",
    ]  # fmt: skip
    lines += [textwrap.indent(init.rstrip("\n"), "        ")] if init else []
    lines += [
        "", "    def zscore(self, close: pd.Series) -> pd.Series:", "        mean = close.rolling(self.params.lookback).mean()",
        "        std = close.rolling(self.params.lookback).std(ddof=0)", "        return (close - mean) / std.replace(0, np.nan)", "",
        "    def on_bar(self, bar) -> str | None:",
    ]  # fmt: skip
    lines += [textwrap.indent(bar.rstrip("\n"), "        ")] if bar else []
    lines += ["        z = bar.z", "        if self.position == 0 and z < -self.params.entry_z:", '            return "buy"', "        if self.position > 0 and z >= self.params.exit_z:", '            return "sell"', "        return None"]  # fmt: skip
    lines += ["", "", end.rstrip("\n")] if end else []
    lines += ["", "", 'if __name__ == "__main__":', f"    print({name}().params)"] if m.number(0, 1) else []
    return "\n".join(lines) + "\n"


def _report(m, more: dict, *, indent: int | None = 2) -> str:
    """A test report with ``more`` among its entries."""
    report = {
        "run_id": m.uuid(), "strategy": m.pick(*_NAMES), "symbol": m.pick(*SYMBOLS), "period": {"start": m.date(), "end": m.date()},
        "strategy_sha256": m.of(HEX, 64), "status": m.pick("passed", "failed"),
        "metrics": {"sharpe": m.number(-100, 300) / 97, "sortino": m.number(-100, 400) / 89, "max_drawdown": -m.number(1, 60) / 131, "trades": m.number(3, 900), "profit_factor": m.number(50, 250) / 101},
    }  # fmt: skip
    tests = [{"name": f"test_{m.pick(*WORDS)}_{m.pick(*WORDS)}", "outcome": "passed", "duration_s": m.number(1, 9999) / 1000} for _ in range(m.number(2, 6))]  # fmt: skip
    cut = m.number(1, len(report))
    names = list(report)
    whole = (
        {n: report[n] for n in names[:cut]} | more | {n: report[n] for n in names[cut:]} | {"tests": tests}
    )
    return json.dumps(whole, indent=indent) + "\n"


def _drawn(cell) -> str:
    return cell() if callable(cell) else cell


def _trades(m, head: str = "", cell="", *, rare: bool = False, before: str = "") -> str:
    """A list of trades, with one more column when ``head`` is given."""
    lines = [
        "trade_id,entry_time,exit_time,symbol,side,qty,entry_price,exit_price,pnl"
        + (f",{head}" if head else "")
    ]
    count = m.number(5, 18)
    special = m.number(1, count)
    for n in range(1, count + 1):
        price = m.number(1000, 90000) / 100
        row = f"{n},{m.iso()},{m.iso()},{m.pick(*SYMBOLS)},{m.pick('long', 'short')},{m.number(1, 500)},{price},{round(price * 1.013, 4)},{m.number(-90000, 90000) / 100}"
        lines.append(row + (("," + (_drawn(cell) if not rare or n == special else "")) if head else ""))
    return before + "\n".join(lines) + "\n"


def _equity(m, before: str = "") -> str:
    """An equity curve."""
    equity = float(m.number(10000, 90000))
    lines = ["timestamp,equity,drawdown,exposure"]
    for _ in range(m.number(8, 24)):
        equity *= 1 + m.number(-200, 230) / 10007
        lines.append(f"{m.iso()},{equity},{-m.number(0, 999999) / 7777777},{m.number(0, 100) / 100}")
    return before + "\n".join(lines) + "\n"


def _events(m, line: str) -> str:
    """An event log in the form `time | level | name | message`, with ``line`` among it."""
    usual = (
        lambda: (
            f"INFO | engine | bar {m.number(1, 9999)} symbol={m.pick(*SYMBOLS)} close={m.number(1000, 99999) / 100}"
        ),
        lambda: f"INFO | broker | order {m.uuid()} filled qty={m.number(1, 500)}",
        lambda: f"DEBUG | signals | zscore={m.number(-3000, 3000) / 997} position={m.number(0, 1)}",
        lambda: f"WARNING | risk | exposure {m.number(50, 100)}% above the soft limit",
        lambda: (
            f"INFO | llm | model=writer-{m.number(1, 9)} prompt_tokens={m.number(100, 9000)} completion_tokens={m.number(10, 4000)} prompt_sha={m.of(HEX, 12)}"
        ),
        lambda: f"INFO | store | wrote equity_curve.csv sha256={m.of(HEX, 64)}",
    )
    lines = [f"{m.iso()} | {m.pick(*usual)()}" for _ in range(m.number(7, 20))]
    lines.insert(m.number(0, len(lines)), f"{m.iso()} | {line}")
    return "\n".join(lines) + "\n"


def _ini(m, text: str) -> str:
    """Settings in sections, with the section ``text`` among them."""
    parts = [
        f"[backtest]\nsymbol = {m.pick(*SYMBOLS)}\ncash = {m.number(1000, 99999)}\ncommission = 0.000{m.number(1, 9)}", "[logging]\nlevel = INFO\nfile = events.log",
        f"[strategy]\nmodule = strategy\nlookback = {m.number(5, 200)}\nkey = close", f"[report]\nformat = json\nseed = {m.number(1, 99999)}",
    ]  # fmt: skip
    parts.insert(m.number(0, len(parts)), text.rstrip("\n"))
    return "\n\n".join(parts) + "\n"


def _toml(m, text: str) -> str:
    """Settings in TOML, with the table ``text`` among them."""
    parts = [
        f'[backtest]\nsymbols = ["{m.pick(*SYMBOLS)}", "{m.pick(*SYMBOLS)}"]\nstart = {m.date()}\ncash = {m.number(1000, 99999)}.0', f'[strategy]\nname = "{m.pick(*_NAMES)}"\nlookback = {m.number(5, 200)}',
        '[report]\npath = "test_report.json"\nplots = true', f'[model]\nname = "writer"\nmax_tokens = {m.number(256, 9000)}\ntemperature = 0.{m.number(1, 9)}',
    ]  # fmt: skip
    parts.insert(m.number(0, len(parts)), text.rstrip("\n"))
    return "\n\n".join(parts) + "\n"


def _basic(m) -> str:
    """Noted credentials as the Basic scheme writes them."""
    return m.s(base64.b64encode(f"{m.pick(*WORDS)}:{m.plain_key(m.number(12, 20))}".encode()).decode())


def _split(m) -> str:
    """A secret in two adjacent strings."""
    return f"API_SECRET = (\n    '{m.key(32)}'\n    '{m.key(32)}'\n)\n"


def _pem_text(m, kind: str = "") -> str:
    return "\n".join(m.pem(kind))


def _ghp(m) -> str:
    return m.s("gh" + m.pick("p", "o", "s") + "_" + m.of(B62, 36))


def _openai(m) -> str:
    return m.s("sk" + m.pick("-", "-proj-", "-svcacct-") + m.of(B62, 48))


def _telegram(m) -> str:
    return m.s(m.of(DIGITS[1:], 10) + ":AA" + m.of(URLSAFE, 32) + m.of(B62, 1))


def _b64_array(m, size: int = 240) -> str:
    return m.plain_b64(size)


# fmt: off
WITH = (
    # Strategies.
    ("strategy.py", lambda m: _strategy(m, top=f'API_KEY = "{m.key(64)}"\nAPI_SECRET = "{m.key(64)}"\nBASE_URL = "https://api.{m.pick(*WORDS)}.example"\n')),
    ("strategy.py", lambda m: _strategy(m, top=f'@dataclass\nclass BrokerConfig:\n    host: str = "127.0.0.1"\n    port: int = 7497\n    username: str = "{m.pick(*WORDS)}"\n    password: str = "{m.rand_pw(m.number(10, 16))}"\n')),
    ("strategy.py", lambda m: _strategy(m, init=f"self.exchange = ccxt.{m.pick('binance', 'kraken', 'bybit', 'okx')}({{\n    'apiKey': '{m.key(64)}',\n    'secret': '{m.key(64)}',\n    'enableRateLimit': True,\n    'options': {{'defaultType': 'future'}},\n}})\n")),
    ("strategy.py", lambda m: _strategy(m, top=f'{m.pick("POLYGON", "FINNHUB", "TIINGO", "EODHD")}_API_KEY = os.getenv("DATA_API_KEY", "{m.key(32)}")\n')),
    ("strategy.py", lambda m: _strategy(m, top=f'os.environ["{m.pick("APCA_API_SECRET_KEY", "BINANCE_SECRET", "TRADIER_TOKEN")}"] = "{m.key(40)}"\n')),
    ("strategy.py", lambda m: _strategy(m, init=f'self.client = TradingClient("{m.s("P" + "K" + m.of(UPPER + DIGITS, 18))}", "{m.key(40)}", paper={m.pick("True", "False")})\n')),
    ("strategy.py", lambda m: _strategy(m, bar=f'quote = requests.get("https://data.example.org/v2/quote", params={{"symbol": self.symbol, "{m.pick("apikey", "api_key", "token")}": "{m.key(m.number(20, 40))}"}}, timeout=5).json()\n')),
    ("strategy.py", lambda m: _strategy(m, bar=f'headers = {{"Authorization": "Bearer {m.key(m.number(32, 64))}", "Accept": "application/json"}}\nrequests.post(ORDER_URL, json={{"qty": 1}}, headers=headers, timeout=5)\n')),
    ("strategy.py", lambda m: _strategy(m, end=f'def load_prices(symbol: str) -> pd.DataFrame:\n    url = f"https://www.alphavantage.co/query?function=TIME_SERIES_DAILY&symbol={{symbol}}&apikey={m.caps(16)}&datatype=csv"\n    return pd.read_csv(url)\n')),
    ("strategy.py", lambda m: _strategy(m, end=f"def history(days: int = 30) -> pd.DataFrame:\n    engine = create_engine('postgresql+psycopg2://quant:{m.key(14)}@db{m.number(1, 9)}.internal:5432/ticks')\n    return pd.read_sql(f'select * from bars limit {{days}}', engine)\n")),
    ("strategy.py", lambda m: _strategy(m, top=f"# TODO: move to vault before merging\n# api_secret = '{m.key(48)}'\napi_secret = os.environ['API_SECRET']\n")),
    ("strategy.py", lambda m: _strategy(m, top=_split(m))),
    ("strategy.py", lambda m: _strategy(m, init=f"self.api_key = '{m.hex(32)}'\nself.api_secret = '{m.b64(64)}'\n")),
    ("strategy.py", lambda m: _strategy(m, end=f"def notify(text: str) -> None:\n    requests.post('https://api.telegram.org/bot{_telegram(m)}/sendMessage', json={{'chat_id': -{m.number(10**8, 10**9)}, 'text': text}})\n")),
    ("strategy.py", lambda m: _strategy(m, end=f"def connect(user: str = 'desk', password: str = '{m.word_pw()}', server: str = 'Broker-Demo') -> bool:\n    return mt5.initialize(login={m.number(10**6, 10**8)}, server=server, password=password)\n")),
    ("strategy.py", lambda m: _strategy(m, init=f"if not mt5.initialize(login={m.number(10**6, 10**8)}, password='{m.rand_pw(10)}', server='Broker-Live0{m.number(1, 9)}'):\n    raise RuntimeError(mt5.last_error())\n")),
    ("strategy.py", lambda m: _strategy(m, init=f"kite = KiteConnect(api_key='{m.plain_hex(16)}')\nkite.set_access_token('{m.key(32)}')\nself.kite = kite\n")),
    ("strategy.py", lambda m: _strategy(m, init=f"self.oanda = oandapyV20.API(access_token='{m.s(m.of(HEX, 32) + '-' + m.of(HEX, 32))}', environment='live')\n")),
    ("strategy.py", lambda m: _strategy(m, bar=f"signature = hmac.new(b'{m.key(64)}', payload.encode(), hashlib.sha256).hexdigest()\n")),
    ("strategy.py", lambda m: _strategy(m, top=f"WALLET = '0x{m.plain_hex(40)}'\nPRIVATE_KEY = '0x{m.hex(64)}'\nCHAIN_ID = {m.pick(1, 137, 42161)}\n")),
    ("strategy.py", lambda m: _strategy(m, end=f"def ask(prompt: str) -> str:\n    client = OpenAI(api_key='{_openai(m)}')\n    reply = client.chat.completions.create(model='small', max_tokens=512, messages=[{{'role': 'user', 'content': prompt}}])\n    return reply.choices[0].message.content\n")),
    ("strategy.py", lambda m: _strategy(m, top=f"client = anthropic.Anthropic(\n    api_key='{m.s('sk' + '-ant-' + 'api03-' + m.of(URLSAFE, 93) + 'AA')}',\n    max_retries=2,\n)\n")),
    ("strategy.py", lambda m: _strategy(m, init=f"self.token = '{m.key(40)}' if os.environ.get('LIVE') else None\n")),
    ("strategy.py", lambda m: _strategy(m, end=f"def login():\n    s = requests.Session()\n    s.auth = ('{m.pick(*WORDS)}@desk.example', '{m.rand_pw(12)}')\n    return s\n")),
    ("strategy.py", lambda m: _strategy(m, init=f"self.totp = pyotp.TOTP('{m.s(m.of(UPPER + '234567', 32))}').now()\n")),
    # Other code.
    ("run_backtest.py", lambda m: py(m, f"parser = argparse.ArgumentParser()\nparser.add_argument('--user', default='desk')\nparser.add_argument('--password', default='{m.rand_pw(14)}', help='broker password')\n")),
    ("settings.py", lambda m: py(m, f"BROKERS = {{\n    'ib': {{'host': '127.0.0.1', 'port': 4002, 'username': 'desk{m.number(1, 99)}', 'password': '{m.word_pw()}'}},\n    'sim': {{'host': None, 'password': None}},\n}}\n")),
    ("settings.py", lambda m: py(m, f"SECRET_KEY = '{m.s(m.of(LOWER + DIGITS + '!@#%^&*(-_=+)', 48) + m.of(LOWER, 2))}'\nALLOWED_HOSTS = ['reports.example.org']\n")),
    ("settings.py", lambda m: py(m, f"class Settings(BaseSettings):\n    log_level: str = 'INFO'\n    redis_password: SecretStr = SecretStr('{m.key(24)}')\n    redis_port: int = 6379\n")),
    ("loader.py", lambda m: method(m, f"s3 = boto3.client('s3', aws_access_key_id='{m.aws_id()}', aws_secret_access_key='{m.aws_secret()}', region_name='eu-west-1')\n")),
    ("loader.py", lambda m: method(m, f"self.cache = redis.Redis(host='cache', port=6379, db=0, password='{m.key(22)}')\n")),
    ("loader.py", lambda m: py(m, f"client = MongoClient('mongodb+srv://quant:{m.key(16)}@cluster{m.number(0, 9)}.{m.plain_hex(5)}.mongodb.net/?retryWrites=true')\n")),
    ("loader.py", lambda m: py(m, f"quandl.ApiConfig.api_key = '{m.s(m.of(B62, 20))}'\ngold = quandl.get('LBMA/GOLD')\n")),
    ("loader.py", lambda m: method(m, f"config['broker']['password'] = '{m.word_pw()}'\nconfig['broker']['host'] = 'gw.example.org'\n")),
    ("mailer.py", lambda m: method(m, f"smtp = smtplib.SMTP_SSL('smtp.gmail.com', 465)\nsmtp.login('reports@example.org', '{m.s(' '.join(m.of(LOWER, 4) for _ in range(4)))}')\n")),
    ("alerts.py", lambda m: py(m, f"WEBHOOK = 'https://hooks.slack.com/services/{m.s('T' + m.of(UPPER + DIGITS, 10) + '/B' + m.of(UPPER + DIGITS, 10) + '/' + m.of(B62, 24))}'\n")),
    ("alerts.py", lambda m: py(m, f"DISCORD = 'https://discord.com/api/webhooks/{m.number(10**17, 10**18)}/{m.safe(68)}'\n")),
    ("alerts.py", lambda m: method(m, f"client = Client('AC{m.plain_hex(32)}', '{m.hex(32)}')  # account sid, auth token\n")),
    ("scrape.py", lambda m: method(m, f"r = requests.get(url, cookies={{'sessionid': '{m.low(32)}', 'theme': 'dark'}}, timeout=10)\n")),
    ("proxy.py", lambda m: py(m, f"PROXIES = {{'https': 'http://{m.pick(*WORDS)}-rotate:{m.low(12)}@p.proxy.example:{m.number(8000, 9000)}'}}\n")),
    ("auth.py", lambda m: method(m, f"if password == '{m.rand_pw(12)}':\n    return True\n")),
    ("auth.py", lambda m: method(m, f"pw = getpass.getpass() or '{m.word_pw()}'\nself.session.login('desk', pw)\n")),
    ("signer.py", lambda m: py(m, f'SIGNING_KEY = """\\\n{_pem_text(m, m.pick("", "RSA ", "EC "))}\n"""\n')),
    ("signer.py", lambda m: py(m, f"# 交易所密钥\napi_key = '{m.plain_key(24)}'\nsecret_key = '{m.key(44)}'\n")),
    ("conftest.py", lambda m: py(m, f"@pytest.fixture(scope='session')\ndef live_client():\n    return Client(token='{m.jwt()}', base_url='https://api.example.org')\n")),
    ("bot.ts", lambda m: f"import {{ Spot }} from '@binance/connector';\n\nconst client = new Spot('{m.key(64)}', '{m.key(64)}', {{ timeout: 3000 }});\n\nexport async function price(symbol: string): Promise<number> {{\n  const r = await client.tickerPrice(symbol);\n  return Number(r.data.price);\n}}\n"),
    ("fetch.R", lambda m: f"library(Quandl)\nlibrary(quantmod)\n\nQuandl.api_key(\"{m.key(20)}\")\nbars <- Quandl(\"WIKI/{m.pick('AAPL', 'GOOG')}\", start_date = \"{m.date()}\")\nplot(bars$Close, type = \"l\")\n"),
    ("Feed.java", lambda m: f'package desk;\n\npublic final class Feed {{\n    private static final String API_SECRET = "{m.key(40)}";\n    private static final int PORT = 4001;\n\n    public void connect() {{\n        client.login("desk", API_SECRET);\n    }}\n}}\n'),
    # Settings.
    (".env", lambda m: env(m, f"{m.pick('BINANCE_API_SECRET', 'KRAKEN_PRIVATE_KEY', 'ALPACA_SECRET_KEY', 'DATABENTO_KEY')}={m.key(m.number(32, 64))}\n")),
    (".env", lambda m: env(m, f"DB_USER=desk\nDB_PASSWORD={m.word_pw()}\nDB_NAME=ticks\n")),
    (".env", lambda m: env(m, f"OPENAI_API_KEY={_openai(m)}\nOPENAI_MODEL=small\n")),
    (".env", lambda m: env(m, f"DATABASE_URL=postgres://desk:{m.key(18)}@db:5432/runs?sslmode=require\n")),
    (".env.production", lambda m: env(m, f"SUPABASE_URL=https://{m.of(LOWER, 20)}.supabase.co\nSUPABASE_SERVICE_ROLE_KEY={m.jwt()}\n")),
    ("config.toml", lambda m: _toml(m, f'[exchange]\nname = "{m.pick("kraken", "coinbase", "bitstamp")}"\napi_key = "{m.key(56)}"\napi_secret = "{m.b64(64)}"\n')),
    ("config.ini", lambda m: _ini(m, f"[database]\nhost = db.internal\nuser = quant\npassword = {m.rand_pw(13)}\n")),
    ("config.yaml", lambda m: yaml(m, f"broker:\n  name: {m.pick('ib', 'tradier', 'oanda')}\n  account: U{m.number(10**6, 10**7)}\n  access_token: {m.key(28)}\n")),
    ("config.yaml", lambda m: yaml(m, f"datadog:\n  site: datadoghq.eu\n  api_key: {m.hex(32)}\n  app_key: {m.hex(40)}\n")),
    ("config.json", lambda m: js(m, {"exchange": {"name": m.pick("bybit", "okx", "gate"), "key": m.key(24), "secret": m.key(44), "ccxt_config": {}, "pair_whitelist": ["BTC/USDT"]}})),
    ("config.json", lambda m: js(m, {"telegram": {"enabled": True, "token": _telegram(m), "chat_id": str(m.number(10**8, 10**9))}, "api_server": {"listen_port": 8080, "username": "desk", "password": m.word_pw()}})),
    ("service_account.json", lambda m: json.dumps({"type": "service_account", "project_id": f"desk-{m.number(100, 999)}", "private_key_id": m.plain_hex(40), "private_key": "\n".join(m.pem("", 1200)) + "\n", "client_email": f"runner@desk-{m.number(100, 999)}.iam.gserviceaccount.com", "client_id": m.of(DIGITS[1:], 21)}, indent=2) + "\n"),
    ("docker-compose.yml", lambda m: f"services:\n  db:\n    image: timescale/timescaledb:2.14-pg16\n    environment:\n      POSTGRES_USER: quant\n      POSTGRES_PASSWORD: {m.rand_pw(14)}\n    ports: ['5432:5432']\n  runner:\n    build: .\n    depends_on: [db]\n"),
    ("secret.yaml", lambda m: f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: broker\n  namespace: desk\ntype: Opaque\ndata:\n  username: {base64.b64encode(b'desk').decode()}\n  password: {m.s(base64.b64encode(m.plain_key(18).encode()).decode())}\n"),
    ("backtest.yml", lambda m: f"name: backtest\non: [push]\njobs:\n  run:\n    runs-on: ubuntu-latest\n    env:\n      {m.pick('POLYGON_KEY', 'FMP_API_KEY', 'TWELVEDATA_TOKEN')}: {m.key(32)}\n    steps:\n      - uses: actions/checkout@{m.plain_hex(40)}\n      - run: python strategy.py\n"),
    ("terraform.tfvars", lambda m: f'region        = "eu-central-1"\ninstance_type = "t3.large"\ndb_username   = "quant"\ndb_password   = "{m.rand_pw(16)}"\n'),
    ("application.properties", lambda m: f"server.port=8080\nspring.datasource.url=jdbc:postgresql://db:5432/ticks\nspring.datasource.username=desk\nspring.datasource.password={m.rand_pw(14)}\n"),
    ("Dockerfile", lambda m: f"FROM python:3.12-slim\nWORKDIR /app\nENV PYTHONUNBUFFERED=1\nENV {m.pick('API_TOKEN', 'FEED_SECRET', 'HF_TOKEN')}={m.pick(lambda: m.key(40), lambda: m.s('hf' + '_' + m.of(B62, 34)))()}\nCOPY . .\nCMD [\"python\", \"strategy.py\"]\n"),
    ("requirements.txt", lambda m: f"numpy==1.26.4\npandas==2.2.1\ngit+https://{_ghp(m)}@github.com/desk/{m.pick(*WORDS)}.git@v1.{m.number(0, 9)}\nscipy>=1.11\n"),
    (".pypirc", lambda m: f"[distutils]\nindex-servers = desk\n\n[desk]\nrepository = https://pypi.desk.example\nusername = __token__\npassword = {m.s('py' + 'pi-' + 'AgEIcHlwaS5vcmc' + m.of(URLSAFE, 120) + m.of(B62, 1))}\n"),
    (".netrc", lambda m: f"machine data.example.org\n  login desk\n  password {m.rand_pw(12)}\n"),
    (".pgpass", lambda m: f"db.internal:5432:ticks:quant:{m.key(16)}\nlocalhost:5432:*:desk:{m.key(16)}\n"),
    ("credentials", lambda m: f"[default]\naws_access_key_id = {m.aws_id()}\naws_secret_access_key = {m.aws_secret()}\nregion = us-east-1\n"),
    ("id_ed25519", lambda m: _pem_text(m, "OPENSSH ") + "\n"),
    ("azure.env", lambda m: env(m, f"AZURE_STORAGE_CONNECTION_STRING=DefaultEndpointsProtocol=https;AccountName=desk{m.number(1, 99)};AccountKey={m.b64(64)};EndpointSuffix=core.windows.net\n")),
    ("billing.env", lambda m: env(m, f"STRIPE_SECRET_KEY={m.s('sk' + '_live_' + m.of(B62, 24))}\nSENDGRID_API_KEY={m.s('SG' + '.' + m.of(URLSAFE, 22) + '.' + m.of(URLSAFE, 42) + m.of(B62, 1))}\n")),
    # Shell, SQL and prose.
    ("deploy.sh", lambda m: sh(m, f"curl -s -u desk:{m.key(16)} https://reports.example.org/upload -F file=@test_report.json")),
    ("deploy.sh", lambda m: sh(m, f"curl -X POST https://api.example.org/v1/runs \\\n  -H 'X-API-Key: {m.key(36)}' \\\n  -H 'Content-Type: application/json' \\\n  -d @test_report.json")),
    ("deploy.sh", lambda m: sh(m, f"PGPASSWORD='{m.rand_pw(14)}' psql -h db -U quant -d ticks -f schema.sql")),
    ("deploy.sh", lambda m: sh(m, f"sshpass -p '{m.word_pw()}' scp out/trades.csv desk@10.0.{m.number(0, 9)}.{m.number(2, 250)}:/srv/reports/")),
    ("deploy.sh", lambda m: sh(m, f"docker login registry.example.org -u ci -p {m.s('gl' + 'pat-' + m.of(B62, 20))}")),
    ("users.sql", lambda m: sql(m, f"CREATE USER reader WITH LOGIN PASSWORD '{m.rand_pw(14)}';")),
    ("README.md", lambda m: md(m, f"Paper account: user `desk{m.number(1, 99)}`, password `{m.word_pw()}` (ask before placing orders).")),
    ("README.md", lambda m: md(m, f"```bash\nexport {m.pick('FINNHUB_TOKEN', 'IEX_SECRET', 'GROQ_API_KEY')}={m.key(40)}\npython strategy.py --symbol SPY\n```")),
    ("notes.txt", lambda m: f"Weekly call {m.date()}\n- retest pairs on the new data\n- commissions were too low in run {m.number(1, 99)}\n- vpn pw is now {m.word_pw()}, old one is dead\n- ask about fills at the close\n"),
    # Notebooks.
    ("research.ipynb", lambda m: nb(m, f"%env OPENAI_API_KEY={_openai(m)}", "%matplotlib inline")),
    ("research.ipynb", lambda m: nb(m, f"!curl -s -H 'Authorization: Token {m.hex(40)}' https://api.tiingo.com/tiingo/daily/spy/prices")),
    ("research.ipynb", lambda m: nb(m, "cfg = load_config()", "print(cfg)", output=f"{{'host': 'db', 'port': 5432, 'user': 'quant', 'password': '{m.key(14)}'}}")),
    ("research.ipynb", lambda m: nb(m, f"tv = TvDatafeed(username='desk', password='{m.rand_pw(12)}')", "bars = tv.get_hist('SPY', 'AMEX', n_bars=500)")),
    # Results.
    ("test_report.json", lambda m: _report(m, {"config": {"broker": "alpaca", "api_key": m.key(20), "secret_key": m.key(40), "paper": True}})),
    ("test_report.json", lambda m: _report(m, {"error": f"HTTPError: 403 Client Error: Forbidden for url: https://financialmodelingprep.com/api/v3/quote/SPY?apikey={m.key(32)}"})),
    ("test_report.json", lambda m: _report(m, {"environment": {"python": "3.12.2", "PATH": "/usr/bin:/bin", m.pick("GITHUB_TOKEN", "GH_PAT"): _ghp(m), "TZ": "UTC"}}, indent=None)),
    ("test_report.json", lambda m: _report(m, {"failures": [{"test": "test_connects", "longrepr": f"E   sqlalchemy.exc.OperationalError: could not connect: postgresql://quant:{m.key(14)}@db:5432/ticks\nE   timeout"}]})),
    ("events.log", lambda m: _events(m, f"DEBUG | http | request headers: {{'User-Agent': 'python-requests/2.31', 'X-MBX-APIKEY': '{m.key(64)}'}}")),
    ("events.log", lambda m: _events(m, f"INFO | broker | logging in as desk with password {m.rand_pw(12)}")),
    ("events.log", lambda m: _events(m, f"ERROR | feed | websocket closed: wss://stream.example.org/ws?token={m.key(40)}")),
    ("events.log", lambda m: _events(m, f"DEBUG | config | loaded api_key={m.key(24)} api_secret={m.key(40)} sandbox=False")),
    ("events.log", lambda m: log(m, f"> authorization: Basic {_basic(m)}", level="DEBUG curl:")),
    ("events.jsonl", lambda m: "\n".join([*(json.dumps({"ts": m.iso(), "event": "bar", "close": m.number(1000, 9999) / 100}) for _ in range(m.number(3, 8))), json.dumps({"ts": m.iso(), "event": "auth", "request": {"op": "auth", "args": {"key": m.plain_key(18), "secret": m.key(36)}}}), json.dumps({"ts": m.iso(), "event": "close"})]) + "\n"),
    ("trades.csv", lambda m: _trades(m, "api_secret", m.key(40))),
    ("trades.csv", lambda m: _trades(m, "note", lambda: f"manual exit; relogin with password={m.rand_pw(12)}", rare=True)),
    ("equity_curve.csv", lambda m: _equity(m, f"# python strategy.py --symbol SPY --token={m.key(36)}\n")),
    ("cassette.yaml", lambda m: f"interactions:\n- request:\n    body: null\n    headers:\n      Authorization:\n      - Bearer {m.key(48)}\n      User-Agent:\n      - python-requests/2.31.0\n    method: GET\n    uri: https://api.example.org/v1/account\n  response:\n    status: {{code: 200, message: OK}}\nversion: 1\n"),
)

WITHOUT = (
    # Strategies that hold nothing.
    ("strategy.py", _strategy),
    ("strategy.py", lambda m: _strategy(m, top=f'API_KEY = os.environ["{m.pick("ALPACA", "BINANCE", "POLYGON")}_API_KEY"]\nAPI_SECRET = os.environ.get("{m.pick("ALPACA", "BINANCE")}_API_SECRET", "")\n')),
    ("strategy.py", lambda m: _strategy(m, top=f'API_KEY = "{m.pick("YOUR_API_KEY", "your-api-key-here", "<your api key>", "PUT_YOUR_KEY_HERE", "REPLACE_ME")}"\nAPI_SECRET = "{m.pick("YOUR_API_SECRET", "your_secret_here", "<secret>", "xxxxxxxxxxxxxxxx", "...")}"\n')),
    ("strategy.py", lambda m: _strategy(m, init="self.exchange = ccxt.binance({'apiKey': os.environ['KEY'], 'secret': os.environ['SECRET'], 'enableRateLimit': True})\n")),
    ("strategy.py", lambda m: _strategy(m, init="self.exchange = ccxt.binance({'apiKey': '', 'secret': '', 'password': None})\n")),
    ("strategy.py", lambda m: _strategy(m, init="password = getpass.getpass('Broker password: ')\nself.client = Client(user='desk', password=password)\n")),
    ("strategy.py", lambda m: _strategy(m, end="def login(user: str, password: str, *, api_secret: str | None = None, token: Optional[str] = None) -> Session:\n    return Session(user=user, password=password, api_secret=api_secret, token=token)\n")),
    ("strategy.py", lambda m: _strategy(m, end='def connect(password):\n    """Connect to the broker.\n\n    Args:\n        password: The account password, at least twelve characters, never stored.\n\n    The token is read from the keyring; the secret key never leaves this process.\n    """\n    return Broker(password=password)\n')),
    ("strategy.py", lambda m: _strategy(m, bar='headers = {"Authorization": f"Bearer {self.token}", "X-Api-Key": API_KEY}\nrequests.get(URL, headers=headers, timeout=5)\n')),
    ("strategy.py", lambda m: _strategy(m, bar="key = (self.symbol, bar.time)\ntoken = self.cache.get(key)\nif token is None:\n    token = self.cache[key] = next(self.tokens)\n")),
    ("strategy.py", lambda m: _strategy(m, top=f"# prompt_sha256: {m.plain_hex(64)}\n# generated_by: writer-{m.number(1, 9)} temperature=0.{m.number(1, 9)}\n")),
    ("strategy.py", lambda m: _strategy(m, top=f'STRATEGY_ID = "{m.uuid()}"\nPARENT_ID = "{m.uuid()}"\nGENERATION = {m.number(1, 99)}\n')),
    ("strategy.py", lambda m: _strategy(m, top=f'DATA_SHA256 = "{m.plain_hex(64)}"\nCOMMIT = "{m.plain_hex(40)}"\n')),
    ("strategy.py", lambda m: _strategy(m, top=f'USDC = "0x{m.plain_hex(40)}"\nTOKEN_ADDRESS = "0x{m.plain_hex(40)}"\nTOKENS = {{"WETH": "0x{m.plain_hex(40)}", "WBTC": "0x{m.plain_hex(40)}"}}\n')),
    ("strategy.py", lambda m: _strategy(m, bar='trades = sorted(self.trades, key=lambda t: t.pnl, reverse=True)\nbest = max(trades, key=operator.attrgetter("pnl"))\n')),
    ("strategy.py", lambda m: _strategy(m, top=f"SECRET_SAUCE = {m.number(1, 99) / 100}  # weight of the overnight return\nKEY_LEVELS = [{m.number(100, 999)}.5, {m.number(100, 999)}.0]\nPASS_THRESHOLD = {m.number(1, 99)}\n")),
    ("strategy.py", lambda m: _strategy(m, top=f'WEIGHTS = np.frombuffer(base64.b64decode("{_b64_array(m)}"), dtype=np.float64)\n')),
    ("strategy.py", lambda m: _strategy(m, top="WEIGHTS = [\n" + "".join(f"    {m.number(-10**9, 10**9) / 10**9}, {m.number(-10**9, 10**9) / 10**9}, {m.number(-10**9, 10**9) / 10**9},\n" for _ in range(6)) + "]\n")),
    ("strategy.py", lambda m: _strategy(m, init='if not os.environ.get("BROKER_TOKEN"):\n    raise RuntimeError("BROKER_TOKEN is not set; export BROKER_TOKEN=... before live trading")\n')),
    ("strategy.py", lambda m: _strategy(m, init='self.password = keyring.get_password("broker", "desk")\nself.secret = config["broker"]["secret"]\nself.api_key = config.get("broker", "api_key")\n')),
    ("strategy.py", lambda m: _strategy(m, init="self.api_key = api_key\nself.api_secret = api_secret\nself._token = None\nself.token_expires_at = 0.0\n")),
    ("strategy.py", lambda m: _strategy(m, end=f"def order_id(self) -> str:\n    return f'{m.pick(*WORDS)}-{{uuid.uuid4().hex}}'\n\n\nIDEMPOTENCY_KEY = '{m.uuid()}'\n")),
    ("strategy.py", lambda m: _strategy(m, top=f'FIGI = "BBG{m.of(UPPER + DIGITS, 9)}"\nISIN = "US{m.of(DIGITS, 10)}"\nLEI = "{m.of(UPPER + DIGITS, 20)}"\nOPTION = "SPY{m.number(240101, 261231)}C00{m.number(100000, 999999)}"\n')),
    ("strategy.py", lambda m: _strategy(m, top=f"np.random.seed({m.number(1, 10**9)})\nMAGIC_NUMBER = {m.number(10**8, 10**9)}\nACCOUNT = 'DU{m.number(10**6, 10**7)}'\n")),
    # Tokens of language models.
    ("tokens.py", lambda m: py(m, f"MAX_TOKENS = {m.number(256, 9000)}\nPRICE_PER_TOKEN = 0.00000{m.number(1, 99)}\n\n\ndef cost(prompt_tokens: int, completion_tokens: int) -> float:\n    total_tokens = prompt_tokens + completion_tokens\n    return total_tokens * PRICE_PER_TOKEN\n")),
    ("tokens.py", lambda m: method(m, "tokenizer = AutoTokenizer.from_pretrained('distilbert-base-uncased')\ntokens = tokenizer(text, padding=True, truncation=True)['input_ids']\npad_token = tokenizer.pad_token\n")),
    ("tokens.py", lambda m: py(m, "BOS_TOKEN = '<|begin_of_text|>'\nEOS_TOKEN = '<|end_of_text|>'\nPAD_TOKEN = '[PAD]'\nUNK_TOKEN = '<unk>'\nsep_token = '</s>'\n")),
    ("lexer.py", lambda m: py(m, "TOKEN_SPEC = [\n    ('NUMBER', r'\\d+(\\.\\d*)?'),\n    ('ASSIGN', r':='),\n    ('ID', r'[A-Za-z_]+'),\n]\n\n\ndef tokens(code):\n    for match in re.finditer(TOKEN_RE, code):\n        yield Token(kind=match.lastgroup, token=match.group())\n")),
    ("tokenizer_config.json", lambda m: js(m, {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "[CLS]", "model_max_length": 512, "tokenizer_class": "BertTokenizer", "added_tokens_decoder": {"0": {"content": "[PAD]", "special": True}}})),
    ("events.log", lambda m: _events(m, f"INFO | llm | usage input_tokens={m.number(100, 9999)} output_tokens={m.number(100, 9999)} cached_tokens={m.number(0, 999)} tokens_per_second={m.number(10, 99)}.{m.number(1, 9)}")),
    ("events.log", lambda m: _events(m, f"INFO | llm | prompt_hash={m.plain_hex(64)} response_hash={m.plain_hex(64)} request_id=req_{m.of(B62, 24)}")),
    ("test_report.json", lambda m: _report(m, {"llm": {"prompt_tokens": m.number(100, 9999), "completion_tokens": m.number(100, 9999), "prompt_hash": m.plain_hex(64), "system_fingerprint": "fp_" + m.plain_hex(10)}})),
    # Results.
    ("test_report.json", lambda m: _report(m, {})),
    ("test_report.json", lambda m: _report(m, {"git": {"commit": m.plain_hex(40), "tree": m.plain_hex(40), "branch": "main", "dirty": False}}, indent=None)),
    ("test_report.json", lambda m: _report(m, {"artifacts": {"trades.csv": {"sha256": m.plain_hex(64), "size": m.number(100, 99999)}, "equity_curve.csv": {"sha256": m.plain_hex(64), "md5": m.plain_hex(32)}}})),
    ("test_report.json", lambda m: _report(m, {"config": {"api_key": m.pick("***", "REDACTED", "[redacted]", "********"), "api_secret": m.pick("***", "<hidden>", "****"), "paper": True}})),
    ("test_report.json", lambda m: _report(m, {"config": {"api_key_env": "ALPACA_KEY", "secret_env": "ALPACA_SECRET", "password_file": "/run/secrets/broker", "token": None}})),
    ("test_report.json", lambda m: _report(m, {"more_tests": [{"name": "test_password_is_never_logged", "outcome": "passed"}, {"name": "test_api_key_missing_raises_configuration_error", "outcome": "passed"}, {"name": "tests/test_auth.py::TestToken::test_refresh_token_expired[secret-none]", "outcome": "skipped"}]})),
    ("test_report.json", lambda m: _report(m, {"failures": [{"test": "test_login", "longrepr": "E   AuthError: invalid password for user desk\nE   assert response.status_code == 200"}]})),
    ("test_report.json", lambda m: _report(m, {"equity_b64": _b64_array(m, 400), "dtype": "<f8", "shape": [50]})),
    ("test_report.json", lambda m: _report(m, {"plot": {"data": [{"type": "scatter", "y": {"dtype": "f8", "bdata": _b64_array(m, 320)}}], "layout": {"title": "Equity"}}})),
    ("test_report.json", lambda m: _report(m, {"cache_key": m.plain_hex(40), "dedupe_key": m.uuid(), "primary_key": "trade_id", "idempotency_key": m.uuid()})),
    ("trades.csv", _trades),
    ("trades.csv", lambda m: _trades(m, "order_id", m.uuid)),
    ("trades.csv", lambda m: _trades(m, "client_order_id", lambda: "x-" + m.of(B62, 22))),
    ("trades.csv", lambda m: _trades(m, "tx_hash", lambda: "0x" + m.plain_hex(64))),
    ("trades.csv", lambda m: _trades(m, "token,token_address", lambda: f"{m.pick('WETH', 'USDC', 'UNI')},0x{m.plain_hex(40)}")),
    ("trades.csv", lambda m: _trades(m, "signal_key", lambda: m.pick("breakout", "reversion", "stop", "target"))),
    ("trades.csv", lambda m: _trades(m, "reason", lambda: m.pick("stop hit", "secret sauce filter passed", "key level reached", "token unlock risk"))),
    ("equity_curve.csv", _equity),
    ("equity_curve.csv", lambda m: _equity(m, f"# run={m.uuid()} commit={m.plain_hex(40)} params_sha256={m.plain_hex(64)}\n")),
    ("features.csv", lambda m: "time,key_rate,token_supply,secret_ratio,password_resets\n" + "".join(f"{m.date()},{m.number(1, 999) / 97},{m.number(10**8, 10**12)},{m.number(1, 999) / 983},{m.number(0, 99)}\n" for _ in range(12))),
    ("embeddings.csv", lambda m: "id,vector_b64\n" + "".join(f"{n},{_b64_array(m, 48)}\n" for n in range(8))),
    ("events.log", lambda m: _events(m, "INFO | engine | run finished")),
    ("events.log", lambda m: _events(m, f"WARNING | auth | token expired, refreshing (expires_in={m.number(60, 3600)})")),
    ("events.log", lambda m: _events(m, f"ERROR | broker | login failed: wrong password for user desk{m.number(1, 99)} (attempt {m.number(1, 5)})")),
    ("events.log", lambda m: _events(m, f"DEBUG | config | api_key=*****{m.of(B62, 4)} api_secret=<redacted> sandbox=True")),
    ("events.log", lambda m: _events(m, f"DEBUG | http | traceparent=00-{m.plain_hex(32)}-{m.plain_hex(16)}-01 x-request-id={m.uuid()}")),
    ("events.log", lambda m: _events(m, f'DEBUG | http | GET https://bucket.s3.amazonaws.com/bars/{m.plain_hex(32)}.parquet ETag="{m.plain_hex(32)}"')),
    ("events.log", lambda m: _events(m, "DEBUG | http | headers: {'Authorization': 'Bearer ***', 'User-Agent': 'python-requests/2.31'}")),
    ("events.log", lambda m: log(m, f"Successfully pulled image sha256:{m.plain_hex(64)} in {m.number(1, 60)}s", level="INFO docker:")),
    ("events.log", lambda m: log(m, "KeyError: 'BINANCE_API_SECRET'", level="ERROR strategy:")),
    ("events.log", lambda m: log(m, f"mlflow run {m.plain_hex(32)} of experiment {m.number(10**17, 10**18)} started", level="INFO mlflow:")),
    ("events.jsonl", lambda m: "".join(json.dumps({"ts": m.iso(), "event": m.pick("fill", "order", "cancel"), "order_id": m.uuid(), "seq": n, "checksum": m.number(10**8, 10**10)}) + "\n" for n in range(m.number(6, 14)))),
    # Settings.
    (".env.example", lambda m: env(m, "BINANCE_API_KEY=\nBINANCE_API_SECRET=\nOPENAI_API_KEY=sk-...\n")),
    (".env.example", lambda m: env(m, f"API_TOKEN={m.pick('changeme', 'your-token-here', 'xxxxxxxx', '<token>', 'TODO')}\nDB_PASSWORD={m.pick('changeme', 'your_password', '<password>')}\n")),
    (".env", lambda m: env(m, "API_KEY=${API_KEY}\nDB_PASSWORD=$(cat /run/secrets/db)\nTOKEN_FILE=/run/secrets/token\n")),
    (".env", lambda m: env(m, f"PUBLIC_KEY_ID={m.pick(*WORDS)}-{m.number(1, 9)}\nPASSWORD_MIN_LENGTH=12\nTOKEN_TTL_SECONDS=3600\nSECRET_NAME=desk/broker\nAPI_KEY_HEADER=X-Api-Key\n")),
    ("config.yaml", lambda m: yaml(m, 'broker:\n  api_key: ${BROKER_API_KEY}\n  api_secret: !env BROKER_API_SECRET\n  password: "{{ vault_broker_password }}"\n')),
    ("config.yaml", lambda m: yaml(m, f"broker:\n  api_key: ENC[AES256_GCM,data:{m.plain_b64(24)},iv:{m.plain_b64(32)},tag:{m.plain_b64(16)},type:str]\n")),
    ("config.yaml", lambda m: yaml(m, f'llm:\n  model: writer-{m.number(1, 9)}\n  max_tokens: {m.number(256, 9000)}\n  stop_token: "</code>"\n  token_budget: {m.number(10**4, 10**6)}\n')),
    ("config.yaml", lambda m: yaml(m, f"cache:\n  key: bars-{m.plain_hex(12)}\n  restore-keys: [bars-]\n  key_prefix: desk\n")),
    ("config.toml", lambda m: _toml(m, '[exchange]\nname = "kraken"\napi_key_env = "KRAKEN_KEY"\napi_secret_env = "KRAKEN_SECRET"\n')),
    ("config.toml", lambda m: _toml(m, f'[data]\nurl = "https://data.example.org/bars/{m.plain_hex(40)}.parquet"\nsha256 = "{m.plain_hex(64)}"\nblake2b = "{m.plain_hex(128)}"\n')),
    ("config.ini", lambda m: _ini(m, "[database]\nhost = db.internal\nuser = quant\npassword =\npassword_command = pass show desk/db\n")),
    ("config.json", lambda m: js(m, {"exchange": {"name": "bybit", "key": "", "secret": "", "password": None}, "dry_run": True})),
    ("config.json", lambda m: js(m, {"secret_ref": {"name": "broker", "key": "password"}, "secret_arn": f"arn:aws:secretsmanager:eu-west-1:{m.of(DIGITS[1:], 12)}:secret:desk/broker-{m.of(B62, 6)}"})),
    ("schema.json", lambda m: js(m, {"properties": {"password": {"type": "string", "minLength": 12, "description": "Password of the account"}, "api_key": {"type": "string", "pattern": "^[A-Za-z0-9]{32}$"}}, "required": ["password", "api_key"]})),
    ("deployment.yaml", lambda m: f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: runner\nspec:\n  template:\n    spec:\n      containers:\n        - name: runner\n          image: registry.example.org/runner@sha256:{m.plain_hex(64)}\n          env:\n            - name: BROKER_PASSWORD\n              valueFrom:\n                secretKeyRef:\n                  name: broker\n                  key: password\n"),
    ("docker-compose.yml", lambda m: "services:\n  db:\n    image: postgres:16\n    environment:\n      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it}\n      POSTGRES_PASSWORD_FILE: /run/secrets/db\n    secrets: [db]\nsecrets:\n  db:\n    file: ./db.txt\n"),
    ("backtest.yml", lambda m: f"name: backtest\non: [push]\npermissions:\n  id-token: write\njobs:\n  run:\n    runs-on: ubuntu-latest\n    env:\n      POLYGON_KEY: ${{{{ secrets.POLYGON_KEY }}}}\n      GITHUB_TOKEN: ${{{{ github.token }}}}\n    steps:\n      - uses: actions/checkout@{m.plain_hex(40)}\n      - run: python strategy.py\n"),
    ("poetry.lock", lambda m: "".join(f'[[package]]\nname = "{m.pick(*WORDS)}"\nversion = "{m.number(0, 9)}.{m.number(0, 20)}"\nfiles = [\n    {{file = "{m.pick(*WORDS)}-py3-none-any.whl", hash = "sha256:{m.plain_hex(64)}"}},\n]\n\n' for _ in range(4))),
    ("package-lock.json", lambda m: json.dumps({"name": "desk", "lockfileVersion": 3, "packages": {f"node_modules/{m.pick(*WORDS)}-tokens": {"version": f"{m.number(1, 9)}.0.{m.number(0, 9)}", "integrity": "sha512-" + m.plain_b64(64)} for _ in range(4)}}, indent=2) + "\n"),
    ("requirements.txt", lambda m: f"numpy==1.26.4 \\\n    --hash=sha256:{m.plain_hex(64)} \\\n    --hash=sha256:{m.plain_hex(64)}\npandas==2.2.1 \\\n    --hash=sha256:{m.plain_hex(64)}\ngit+https://github.com/desk/bars.git@{m.plain_hex(40)}\n"),
    ("main.tf", lambda m: 'variable "db_password" {\n  type      = string\n  sensitive = true\n}\n\nresource "aws_db_instance" "ticks" {\n  username = "quant"\n  password = var.db_password\n  kms_key_id = aws_kms_key.ticks.arn\n}\n'),
    ("application.properties", lambda m: "server.port=8080\nspring.datasource.url=jdbc:postgresql://db:5432/ticks\nspring.datasource.username=${DB_USER}\nspring.datasource.password=${DB_PASSWORD}\n"),
    ("id_ed25519.pub", lambda m: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{m.of(B64, 43)} desk@{m.pick(*WORDS)}\n"),
    ("ca.pem", lambda m: "-----BEGIN CERTIFICATE-----\n" + "\n".join(textwrap.wrap(m.plain_b64(700), 64)) + "\n-----END CERTIFICATE-----\n"),
    ("known_hosts", lambda m: f"github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{m.of(B64, 43)}\n|1|{m.plain_b64(20)}|{m.plain_b64(20)} ecdsa-sha2-nistp256 {m.plain_b64(104)}\n"),
    # Other code.
    ("settings.py", lambda m: py(m, "class Settings(BaseSettings):\n    broker_password: SecretStr\n    api_key: SecretStr = Field(..., alias='BROKER_API_KEY')\n    token_url: str = 'https://auth.example.org/oauth/token'\n")),
    ("settings.py", lambda m: py(m, "SENSITIVE = ('password', 'passwd', 'secret', 'token', 'api_key', 'authorization')\nREDACTED = '***'\n\n\ndef scrub(d):\n    return {k: REDACTED if k.lower() in SENSITIVE else v for k, v in d.items()}\n")),
    ("settings.py", lambda m: py(m, "KEY_RE = re.compile(r'(?i)(api[_-]?key|secret|password)\\s*[:=]\\s*[\"\\']?([A-Za-z0-9/+_-]{16,})')\nAWS_RE = re.compile(r'\\bAKIA[0-9A-Z]{16}\\b')\n")),
    ("loader.py", lambda m: method(m, "secret = boto3.client('secretsmanager').get_secret_value(SecretId='desk/broker')['SecretString']\npassword = json.loads(secret)['password']\n")),
    ("loader.py", lambda m: method(m, "url = f'postgresql://{user}:{password}@{host}:{port}/{name}'\nengine = create_engine(url)\n")),
    ("loader.py", lambda m: py(m, "ENGINE = create_engine('postgresql://localhost:5432/ticks')\nCACHE = redis.from_url('redis://cache:6379/0')\nREPO = 'ssh://git@github.com/desk/bars.git'\n")),
    ("loader.py", lambda m: method(m, f"bars = pd.read_parquet('s3://desk-bars/{m.date()}/{m.plain_hex(32)}.parquet')\nurl = 'https://data.example.org/v1/bars?symbol=SPY&from={m.date()}&page_size=500'\n")),
    ("loader.py", lambda m: method(m, "params = {'symbol': symbol, 'apikey': self.api_key, 'pageToken': next_page_token}\nnext_page_token = page.get('next_page_token')\n")),
    ("auth.py", lambda m: method(m, "nonce = secrets.token_hex(16)\ntoken = secrets.token_urlsafe(32)\npassword = ''.join(secrets.choice(string.ascii_letters) for _ in range(20))\n")),
    ("auth.py", lambda m: method(m, "signature = hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()\nif not hmac.compare_digest(signature, received):\n    raise PermissionError('bad signature')\n")),
    ("auth.py", lambda m: method(m, "if password == '':\n    raise ValueError('password must not be empty')\nif len(password) < 12 or password.lower() in COMMON_PASSWORDS:\n    raise ValueError('password too weak')\n")),
    ("models.py", lambda m: py(m, "class User(Base):\n    __tablename__ = 'users'\n    id = Column(Integer, primary_key=True)\n    password_hash = Column(String(128), nullable=False)\n    api_token = relationship('ApiToken', back_populates='user')\n    account_id = Column(ForeignKey('accounts.id'))\n")),
    ("cli.py", lambda m: py(m, "parser = argparse.ArgumentParser()\nparser.add_argument('--password', default=None, help='broker password (prompted for when absent)')\nparser.add_argument('--token-env', default='BROKER_TOKEN')\nparser.add_argument('--api-key', default=os.environ.get('API_KEY'))\n")),
    ("test_auth.py", lambda m: py(m, "def test_password_is_required():\n    with pytest.raises(ValueError, match='password'):\n        Client(user='desk', password='')\n\n\ndef test_uses_the_api_key(monkeypatch):\n    monkeypatch.setenv('API_KEY', 'dummy')\n    assert Client().api_key == 'dummy'\n")),
    ("test_auth.py", lambda m: py(m, "@pytest.mark.parametrize('token', [None, '', 'invalid', 'test-token'])\ndef test_rejects_bad_tokens(token):\n    assert client.get('/', headers={'Authorization': f'Bearer {token}'}).status_code == 401\n")),
    ("test_hash.py", lambda m: py(m, f"def test_digest_of_params():\n    assert digest({{'fast': {m.number(5, 20)}, 'slow': 50}}) == '{m.plain_hex(64)}'\n\n\ndef test_cache_key():\n    assert cache_key('SPY') == '{m.plain_hex(32)}'\n")),
    ("verify.py", lambda m: py(m, '# The key that releases are signed with; this half is public.\nPUBLIC_KEY = """-----BEGIN PUBLIC KEY-----\n' + "\n".join(textwrap.wrap(m.plain_b64(294), 64)) + '\n-----END PUBLIC KEY-----"""\n')),
    ("keys.py", lambda m: py(m, "KEY_BINDINGS = {'ctrl+s': 'save', 'ctrl+shift+p': 'command_palette', 'f5': 'run_backtest'}\nHOTKEY = 'ctrl+alt+delete'\n")),
    ("names.py", lambda m: py(m, f"LONG = 'crossSectionalMomentumWithVolatilityTargetingAndSectorNeutralization{m.number(1, 99)}'\nOUTPUT = 'backtest_results_mean_reversion_bollinger_spy_daily_{m.number(2000, 2024)}'\nCHARS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'\n")),
    ("icons.ts", lambda m: f"export const logo =\n  'data:image/png;base64,iVBORw0KGgo{m.plain_b64(300)}';\n\nexport function tokenColor(token: DesignToken): string {{\n  return theme.tokens[token.key] ?? 'inherit';\n}}\n"),
    ("login.tsx", lambda m: 'export function Login() {\n  const [password, setPassword] = useState("");\n  return (\n    <form onSubmit={submit}>\n      <label htmlFor="password">Password</label>\n      <input id="password" type="password" placeholder="Enter your password" value={password} autoComplete="current-password" />\n    </form>\n  );\n}\n'),
    ("messages.json", lambda m: js(m, {"login.password": "Password", "login.password.placeholder": "Enter your password", "login.password.wrong": "The password is wrong.", "token.expired": "Your token has expired, please sign in again"})),
    ("Feed.java", lambda m: 'package desk;\n\npublic final class Feed {\n    private final String apiSecret;\n\n    public Feed() {\n        this.apiSecret = System.getenv("API_SECRET");\n        String password = new String(System.console().readPassword("Password: "));\n    }\n}\n'),
    # Shell, SQL and prose.
    ("deploy.sh", lambda m: sh(m, 'curl -s -u "$USER:$PASSWORD" -H "X-Api-Key: ${API_KEY}" https://reports.example.org/upload')),
    ("deploy.sh", lambda m: sh(m, "read -rsp 'Password: ' PASSWORD\nexport PGPASSWORD=\"$PASSWORD\"\npsql -h db -U quant -d ticks -f schema.sql")),
    ("deploy.sh", lambda m: sh(m, 'TOKEN=$(vault kv get -field=token secret/desk/broker)\nexport API_KEY="$(aws ssm get-parameter --name /desk/key --with-decryption --query Parameter.Value --output text)"')),
    ("deploy.sh", lambda m: sh(m, f"echo '{m.plain_hex(64)}  bars.parquet' | sha256sum -c -\ngit checkout {m.plain_hex(40)}\nopenssl rand -base64 32 > /run/secrets/token")),
    ("schema.sql", lambda m: sql(m, "CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT, password_hash TEXT NOT NULL, api_token_id BIGINT REFERENCES tokens (id));")),
    ("schema.sql", lambda m: sql(m, "CREATE USER reader WITH LOGIN PASSWORD :'reader_password';")),
    ("README.md", lambda m: md(m, "Set `API_KEY` and `API_SECRET` in your environment; never commit them. Passwords belong in the keyring, tokens expire after one hour.")),
    ("README.md", lambda m: md(m, f"```bash\nexport OPENAI_API_KEY=\"{m.pick('sk-...', 'your-key-here', '<your key>', 'sk-xxxxxxxxxxxxxxxxxxxx')}\"\ncurl -H 'Authorization: Bearer <token>' https://api.example.org/v1/runs\n```")),
    ("README.md", lambda m: md(m, "The connection string has the form `postgresql://user:password@host:5432/dbname`; see [tokens](https://docs.example.org/auth/api-keys#rotate-secret).")),
    ("README.md", lambda m: md(m, "AWS keys look like `" + "AK" + "IAIOSFODNN7" + "EXAMPLE`; the scanner of the host refuses a push that holds one.")),
    ("CHANGELOG.md", lambda m: f"# Changelog\n\n## 1.{m.number(0, 9)}.0 - {m.date()}\n\n- Rotate the API key on start ({m.plain_hex(7)})\n- Password prompts no longer echo ({m.plain_hex(7)})\n- Count tokens of the prompt before sending it\n- Fix secret names with slashes\n"),
    ("prompt.md", lambda m: f"# Task\n\nWrite a strategy for {m.pick(*SYMBOLS)}. Do not read API keys, passwords or tokens; the engine passes the bars in.\n\nmax_tokens: {m.number(500, 9000)}\nprompt_id: {m.uuid()}\nprompt_sha256: {m.plain_hex(64)}\n"),
    # Notebooks.
    ("research.ipynb", lambda m: nb(m, "import getpass", "api_key = getpass.getpass('API key: ')", "client = Client(api_key)")),
    ("research.ipynb", lambda m: nb(m, "from google.colab import userdata", "openai.api_key = userdata.get('OPENAI_API_KEY')")),
    ("research.ipynb", lambda m: nb(m, "hashlib.sha256(data).hexdigest()", output=m.plain_hex(64))),
    ("research.ipynb", lambda m: nb(m, "df.head()", output=f"   time  token_count  key\n0  {m.date()}  {m.number(1, 999)}  close\n1  {m.date()}  {m.number(1, 999)}  open")),
    ("research.ipynb", lambda m: json.dumps({"cells": [{"cell_type": "code", "execution_count": m.number(1, 99), "id": m.plain_hex(8), "metadata": {}, "source": ["equity.plot()\n"], "outputs": [{"output_type": "display_data", "metadata": {}, "data": {"image/png": "iVBORw0KGgo" + m.plain_b64(900), "text/plain": ["<Figure size 640x480 with 1 Axes>"]}}]}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"),
)
# fmt: on

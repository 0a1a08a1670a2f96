"""Names and values on their own."""

import random
import string

import pytest

from cas.secretscan import SecretScanner
from cas.secretscan.names import judge_name, split_words
from cas.secretscan.values import is_password, is_random, is_scrambled, is_stand_in
from tests.secrets.corpus import B62, Maker

SCANNER = SecretScanner(engine="python")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("apiKey", ["api", "key"]),
        ("BINANCE_API_SECRET", ["binance", "api", "secret"]),
        ("X-MBX-APIKEY", ["x", "mbx", "api", "key"]),
        ("dbPassword2", ["db", "password", "2"]),
        ("clientsecret", ["client", "secret"]),
    ],
)
def test_name_is_cut_into_words(name, words):
    assert split_words(name) == words


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("password", "password"),
        ("db_pwd", "password"),
        ("DB_PASS", "password"),
        ("api_key", "key"),
        ("access_key_id", "key"),
        ("clientSecret", "secret"),
        ("TOKEN_ALPACA", "token"),
        ("aws_secret_access_key", "aws-secret"),
        ("privateKey", "wallet"),
        ("binance_key", "key"),
        ("config.exchange.secret", "secret"),
        ("api_key_live", "key"),
        ("seed_phrase", "mnemonic"),
        ("feed.data.api.key", "key"),
        ("TIMESCALE_PASS", "password"),
    ],
)
def test_name_of_a_credential_is_recognised(name, kind):
    assert judge_name(name).kind == kind


@pytest.mark.parametrize(
    "name",
    [
        "token_count",
        "max_tokens",
        "tokenizer",
        "pad_token",
        "token_address",
        "next_page_token",
        "password_hash",
        "secret_name",
        "api_key_env",
        "password_file",
        "public_key",
        "primary_key",
        "cache_key",
        "monkey",
        "test_pass",
        "has_password",
        "token_type",
        "instrument_token",
        "passed",
        "secretary",
        "get_password",
        "key",
        "keyword",
        "compass",
    ],
)
def test_name_of_something_else_is_not(name):
    assert judge_name(name) is None


@pytest.mark.parametrize("seed", range(100))
def test_value_of_letters_digits_and_signs_is_scrambled(seed):
    rng = random.Random(f"scrambled {seed}")
    signs = "!@#$%^&*(-_=+)"
    value = "".join(rng.choice(string.ascii_lowercase + string.digits + signs) for _ in range(50))
    assert is_scrambled(value)
    assert SCANNER.scan(f'[web]\nsecret_key = "{value}"\n'.encode(), "web.toml")


@pytest.mark.parametrize(
    "value",
    [
        "%(asctime)s-%(levelname)s-%(message)s",
        "hmac(sha256(key+salt1),payload2)+nonce3",
        "2024-03-01_2024-06-30_1h+4h+1d_v2",
        "sma(10)+sma(20)*0.5-ema(50)*1.5+atr(14)",
        "change-me!-change-me!-change-me!-1234",
        "rsi(14)<30&close>sma(200)&volume>1.5",
    ],
)
def test_value_that_is_an_expression_is_not_scrambled(value):
    assert not is_scrambled(value)


@pytest.mark.parametrize(
    "call",
    [
        'os.getenv("FEED_API_KEY", "{}")',
        'os.environ.get("FEED_API_KEY", "{}")',
        'os.environ.setdefault("FEED_API_KEY", "{}")',
        'monkeypatch.setenv("FEED_API_KEY", "{}")',
    ],
)
def test_default_of_a_setting_is_found_in_a_notebook_too(call):
    line = call.format(Maker(call).of(B62, 32))
    assert len(SCANNER.scan(line.encode(), "a.py")) == 1
    escaped = line.replace('"', '\\"')
    assert len(SCANNER.scan(f'    "{escaped}\\n",\n'.encode(), "a.ipynb")) == 1


def test_option_beside_a_command_with_a_password_is_none_itself():
    command = "mysql -u etl -p" + Maker("mysql").of(B62, 14)
    text = f"docker login -u etl --password-stdin < /run/secrets/registry\n{command} ticks\n"
    (finding,) = SCANNER.scan(text.encode(), "run.sh")
    assert finding.line == 2


@pytest.mark.parametrize(
    "value",
    [
        "changeme",
        "your-api-key",
        "xxxxxxxx",
        "<password>",
        "${TOKEN}",
        "{{ token }}",
        "********",
        "%(token)s",
        "{token}",
        "none",
        "sk-...abc",
        "self.token",
        "os.environ",
        "config.get(",
        "example-key",
        "AAAAAAAA",
        "secret",
        "op://vault/x",
        "REPLACE_ME",
        "todo",
        "@token@",
    ],
)
def test_value_that_stands_in_is_recognised(value):
    assert is_stand_in(value)


@pytest.mark.parametrize("seed", range(200))
def test_value_drawn_at_random_is_recognised(seed):
    m = Maker(f"random/{seed}")
    assert is_random(m.of(B62, m.number(20, 64)))


@pytest.mark.parametrize(
    "value",
    [
        "gpt-4-turbo-2024-04-09",
        "cl100k_base",
        "claude-3-5-sonnet-20241022",
        "mean_reversion_v2_final",
        "us-east-1-prod-db",
        "BTC-USDT-240628",
        "sma_20_50_cross_strategy",
        "production-environment",
        "MovingAverageConvergence",
    ],
)
def test_value_written_by_a_person_is_not_random(value):
    assert not is_random(value)


def test_value_of_words_is_random_only_by_rare_accident():
    rng = random.Random(3)
    words = [
        "order",
        "trade",
        "signal",
        "window",
        "price",
        "market",
        "close",
        "entry",
        "profit",
        "risk",
        "level",
        "model",
    ]
    values = [
        "_".join(rng.sample(words, rng.randint(2, 4))) + rng.choice(["", "_v2", "_2024", "_14"])
        for _ in range(500)
    ]
    assert sum(map(is_random, values)) == 0


def test_password_of_a_person_is_accepted_and_prose_is_not():
    assert is_password("hunter2hunter2", quoted=False, whole_line=False)
    assert is_password("correct horse battery staple", quoted=True, whole_line=False)
    assert not is_password("enter your password here", quoted=True, whole_line=False)
    assert not is_password("required", quoted=False, whole_line=False)


@pytest.mark.parametrize(
    "text",
    [
        'api_key = os.environ["BINANCE_API_KEY"]',
        "password = getpass.getpass('Password: ')",
        "token: str",
        "password=password",
        "api_key=self.api_key",
        '{"token_count": 12345, "max_tokens": 4096}',
        'tokens = ["BUY_SIGNAL", "SELL_SIGNAL"]',
        '"""The password: at least twelve characters."""',
        "token = tokenizer.decode(ids)",
        'secret_manager = "gcp-secret-manager"',
        "password = config['db']['password']",
        'token = "0x' + "ab12" * 10 + '"',
    ],
)
def test_ordinary_line_is_left_alone(text):
    assert SCANNER.scan(text.encode(), "strategy.py") == []


def test_finding_gives_line_and_column_of_the_value():
    value = Maker("place").of(B62, 30)
    (finding,) = SCANNER.scan(f'# é\n\n  api_key = "{value}"\n'.encode(), "a.py")
    assert (finding.line, finding.column, finding.rule) == (3, 14, "api-key")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_finding_in_utf16_gives_its_line(codec):
    text = "first\nsecond\npassword = 'Tr4ding-Desk'\n"
    (finding,) = SCANNER.scan(text.encode(codec), "a.txt")
    assert finding.line == 3
    assert finding.column == 2 * len("password = '") + 1


def test_very_long_line_is_scanned_throughout():
    value = Maker("long").of(B62, 30)
    data = b"1.5," * 100_000 + f'"api_key":"{value}"'.encode() + b",2.5" * 100_000
    (finding,) = SCANNER.scan(data, "a.json")
    assert finding.column == 400_000 + len('"api_key":"') + 1


def test_binary_noise_is_left_alone():
    assert SCANNER.scan(random.Random(1).randbytes(200_000), "a.bin") == []


def test_whole_printable_range_is_scanned_without_error():
    assert SCANNER.scan(string.printable.encode() * 50, "a.txt") == []

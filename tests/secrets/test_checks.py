"""What each rule asks of a match, by the bytes around it: the span of the value, or nothing."""

import base64
import binascii
import json

import pytest

from cas.secretrules import vocabulary as known
from cas.secretscan import checks
from tests.secrets.corpus import B62, Maker

MAKER = Maker("checks")
KEY = MAKER.of(B62, 36)
HEX = MAKER.of("0123456789abcdef", 32)
DIGITS = MAKER.of("0123456789", 9)
PASSWORD = MAKER.of(B62, 6) + "#7aQ"


def around(check, before, value, after=""):
    """Return what a check makes of a value between two texts: the bytes it takes for the credential, or None."""
    data = f"{before}{value}{after}".encode()
    start = len(before.encode())
    span = checks.CHECKS[check](data, start, start + len(value.encode()))
    return None if span is None else data[slice(*span)].decode()


def taken(check, before, value, after=""):
    return around(check, before, value, after) == value


def test_random_value_is_taken_with_or_without_the_prefix_of_its_provider():
    assert taken("random", "k = ", KEY, "\n")
    assert taken("random", "", f"sk_{KEY}")
    assert taken("random", "", f"sk-None-{KEY}")
    assert around("random", "", "sk_" + "aaaa1111" * 4) is None
    assert around("random", "", "your-api-key-goes-here") is None
    assert around("random", "", "some.ordinary.name.of.things") is None
    assert around("random", "", "ordinaryname") is None


def test_value_of_few_letters_is_not_random():
    assert around("random", "", "abcdeabcdeabcdeabcde") is None
    assert around("random", "", "ABCDEabcde" * 3) is None


def test_strong_value_is_one_that_a_machine_has_drawn():
    assert taken("strong", "x(", KEY, ")")
    for value in ("aGreatName", "ordinary_words_of_people", KEY[:15], "x" * 36, "<YOUR_TOKEN_HERE_PLEASE>"):
        assert around("strong", "", value) is None


def test_token_of_github_is_taken_by_its_checksum_or_by_its_looks():
    low = "abcabcabcabcabcabcabcabcabcabc"
    right = checks.base62_checksum(low)
    assert taken("github", "", f"ghp_{low}{right}")
    assert around("github", "", f"ghp_{low}000000") is None
    assert taken("github", "", f"ghp_{KEY}")
    assert around("github", "", "ghp_" + "x" * 36) is None


def test_checksum_is_the_crc_in_base_62():
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for text in ("", "a", "hello", KEY):
        found = checks.base62_checksum(text)
        assert len(found) == 6
        number = 0
        for digit in found:
            number = number * 62 + digits.index(digit)
        assert number == binascii.crc32(text.encode())


def test_documented_id_is_taken_where_it_is_assigned():
    example = "AKIA" + "IOSFODNN7EXAMPLE"
    assert around("aws-id", "see ", example) is None
    for before in ("aws_access_key_id = ", 'accessKeyId: "', "ACCESS_KEY='", '"access_key" : "'):
        assert taken("aws-id", before, example)
    assert around("aws-id", "aws_access_key_id = x ", example) is None
    assert taken("aws-id", "", "AKIA" + MAKER.of("ABCDEFGHJKLMNPQRSTUVWXYZ234567", 16))


def test_key_of_stripe_is_taken_unless_it_is_a_word_or_a_mask():
    assert taken("stripe", "k=", f"sk_live_{KEY[:24]}")
    for body in ("x" * 24, "averyordinaryname", "yourkeyhere"):
        assert around("stripe", "", f"sk_live_{body}") is None


def test_token_of_telegram_takes_the_number_before_it_in():
    token = f":AA{KEY[:33]}"
    for before in ("", "t = '", "/bot", "\\n"):
        assert around("telegram", f"{before}{DIGITS}", token) == f"{DIGITS}{token}"
    for before in ("", "x", f"{DIGITS[:7]}", f"a{DIGITS}", f"12{DIGITS}"):
        assert around("telegram", before, token) is None


def test_key_of_mailchimp_takes_the_digits_before_its_centre_in():
    for before in ("", "k='", "\\n"):
        assert around("mailchimp", f"{before}{HEX}", "-us12") == f"{HEX}-us12"
    for before in (HEX[1:], f"a{HEX}", f"-{HEX}", f"_{HEX}", HEX.upper().replace("0", "G")):
        assert around("mailchimp", before, "-us12") is None


@pytest.mark.parametrize("size", [40, 44, 52, 56, 84, 88])
def test_marked_key_has_one_of_the_known_lengths(size):
    body = MAKER.of(B62, size)
    whole = f"{body[:20]}JQQJ{body[24:]}"
    assert around("marked", f'"{whole[:20]}', "JQQJ", f'{whole[24:]}"') == whole
    assert around("marked", f'"{whole[:20]}', "JQQJ", f'{whole[24:-1]}"') is None
    assert around("marked", f'"x{whole[:20]}', "JQQJ", f'{whole[24:]}"') is None
    padded = f"{whole[:-2]}=="
    assert around("marked", f" {padded[:20]}", "JQQJ", f"{padded[24:]} ") == padded


def test_marked_key_may_begin_or_end_with_its_mark():
    body = MAKER.of(B62, 36)
    assert around("marked", " ", "JQQJ", f"{body} ") == f"JQQJ{body}"
    assert around("marked", f" {body}", "JQQJ", " ") == f"{body}JQQJ"
    assert around("marked", body, "JQQJ") == f"{body}JQQJ"


def test_encoded_key_is_random_behind_its_beginning():
    assert taken("der", "", "A" * 36 + KEY)
    assert around("der", "", KEY + "A" * 60) is None
    assert around("der", "", "A" * 36 + KEY[:20]) is None


def test_user_of_an_address_is_taken_unless_errors_are_reported_there():
    assert taken("url-token", "https://", HEX + KEY[:4], "@example.org/x")
    for after in (
        "@sentry.io/1",
        "@o123.ingest.sentry.io/1",
        "@o123.ingest.example.org/1",
        "@errors.sentry.x/1",
    ):
        assert around("url-token", "https://", HEX + KEY[:4], after) is None


def pem(body, end="\n"):
    name = "PRIVATE " + "KEY"
    return f"-----BEGIN {name}-----{end}{body}{end}-----END {name}-----"


def test_private_key_has_a_body_of_base64_in_any_layout():
    long = MAKER.of(B62, 64)
    for end in ("\n", "\\n", "\\\\n", "\\r\\n"):
        assert taken("pem", "k = '", pem(f"{long}{end}{long}", end))
    assert around("pem", "", pem("x" * 64)) is None
    assert around("pem", "", pem("")) is None
    assert checks.key_body(pem(f"{long}\\n{KEY}", "\n").encode()) == (long + KEY).encode()


def jwt(header):
    encoded = (
        header if isinstance(header, str) else base64.urlsafe_b64encode(json.dumps(header).encode()).decode()
    )
    return f"{encoded.rstrip('=')}.{KEY}.{KEY}"


def test_token_whose_header_names_an_algorithm_is_taken():
    for header in ({"alg": "HS256"}, {"typ": "JWT"}, {"alg": "x", "kid": 1}, {"alg": "none", "typ": "JWT"}):
        assert taken("jwt", "t=", jwt(header))
    for header in ({"kid": "x"}, ["alg"], "alg", 5, "%%%", {}):
        assert around("jwt", "t=", jwt(header)) is None


def test_password_of_an_address_is_taken_unless_it_says_nothing():
    for value in (KEY, "hunt3r22", "s3cr3tpw", "a1b2", "834529"):
        assert taken("url", "postgres://ann:", value, "@host/db")
    for value in (
        "password",
        "postgres",
        "abc",
        "1234",
        "12345",
        "${PASS}",
        "{pass}",
        "<pw1>",
        "$PASS1",
        "%PASS1%",
        "f(x)1",
    ):
        assert around("url", "postgres://ann:", value, "@host/db") is None
    assert around("url", "postgres://AnnLee7:", "annlee7", "@host/db") is None
    assert taken("url", "postgres://annlee8:", "annlee7", "@host/db")


def test_password_is_taken_where_one_belongs():
    assert taken("password", "", PASSWORD)
    assert taken("password", "", "hunter2hunter2")
    for value in ("password", "x" * 9, "aB3#x", "changeme", "${SECRET_PW}"):
        assert around("password", "", value) is None


def test_password_of_a_command_stands_behind_a_program_on_the_same_line():
    for program in ("curl -u ann:", "mysqldump -p", "docker login -p ", "redis-cli -a ", "ftp ", "lftp "):
        assert taken("command", f"x\n$ {program}", PASSWORD)
    for before in ("", "echo ", "curl x\necho ", "mycurl "):
        assert around("command", before, PASSWORD) is None
    assert taken("command", "curl" + " " * 295, PASSWORD)
    assert around("command", "curl" + " " * 297, PASSWORD) is None


def test_second_argument_of_a_login_is_unmistakable():
    assert taken("login", "login('ann', '", PASSWORD)
    assert taken("login", "login('ann', '", KEY[:24] + "7a")
    for value in ("#" * 3 + "abcdefgh", "12345678#", "ordinary7", "a1#"):
        assert around("login", "login('ann', '", value) is None


def test_value_that_a_function_returns_belongs_to_its_name():
    for name in ("get_api_key", "_load_token", "apiKey", "fetchSecret", "make_password", "default_api_key"):
        assert taken("returned", f"def other(x):\n  pass\ndef {name}():\n    return '", KEY)
    for before in (
        "return '",
        "def get_name():\n    return '",
        "def api_key():\n  pass\ndef name():\n  return '",
    ):
        assert around("returned", before, KEY) is None
    assert around("returned", "def api_key():\n    return '", "an ordinary text") is None
    assert taken("returned", "api_key(" + " " * 292, KEY)
    assert around("returned", "api_key(" + " " * 293, KEY) is None


def test_padded_key_is_random_behind_its_zeroes():
    assert taken("padded", "", "A" * 20 + MAKER.of(B62, 48))
    assert around("padded", "", "A" * 60 + KEY[:20]) is None


def basic(text):
    return base64.b64encode(text.encode()).decode().rstrip("=")


def test_encoded_user_and_password_are_taken_unless_they_say_nothing():
    for text in (f"ann:{PASSWORD}", f":{PASSWORD}", f"{KEY}:", "ann:hunter22", f"ann:{PASSWORD}:password"):
        assert taken("basic", "Basic ", basic(text))
    for text in (
        "annhunter22",
        ":",
        "ann:password",
        "ann:Password",
        "ann:xxxxxxxx",
        "ann:pass\nword9",
        "ann:\x01abc123",
    ):
        assert around("basic", "Basic ", basic(text)) is None
    assert around("basic", "Basic ", "w+n/:") is None
    assert around("basic", "Basic ", base64.b64encode(b"\xff\xfe:abcd1234").decode()) is None


def test_argument_of_a_broker_or_of_a_call_that_takes_keys_is_taken():
    for call in (
        "ccxt.binance(", "BinanceClient(", "alpaca.REST(", "client.set_api_key(", "login(", "x.authenticate(",
        "TradingClient(", "Kraken.new(", "Spot::Client::new(", "a.rest_client(", "HistoricalData(",
    ):  # fmt: skip
        assert taken("client", f"x = {call}'", KEY), call
        assert taken("client", f"x = {call}a, b='", KEY), call
    for call in ("hash(", "print(", "config(", "load(", "(", "big_name("):
        assert around("client", f"x = {call}'", KEY) is None, call
    assert around("client", "BinanceClient('", "ordinary_words_of_people") is None
    assert around("client", "MyClient('", HEX) is None
    assert taken("client", "binance('", HEX)
    assert taken("client", "binance(" + " " * 190, KEY)
    assert around("client", "binance(" + " " * 200, KEY) is None
    assert around("client", "x = '", KEY) is None


def test_key_of_a_wallet_is_taken_from_the_calls_that_make_one():
    key = "0x" + MAKER.of("0123456789abcdef", 64)
    for call in (
        "Account.from_key(",
        "web3.privateKeyToAccount(",
        "new ethers.Wallet(",
        "Keypair.fromSecretKey(",
    ):
        assert taken("client", f"x = {call}'", key)
    assert around("client", "x = sha256('", key) is None


def test_value_under_the_bare_name_of_a_service_is_taken_unless_it_may_be_a_digest():
    for before in ('"binance": "', "binance = '", "BINANCE=", "  binance: ", "a, kraken='", "export kraken="):
        assert taken("service", f"x\n{before}", KEY), before
    assert taken("service", "BINANCE=", HEX)
    assert taken("service", "export binance=", HEX)
    assert taken("service", "set binance=", HEX)
    assert taken("service", "ENV binance=", HEX)
    for before in ("binance = ", '"binance": "', "x, BINANCE=", "X BINANCE="):
        assert around("service", before, HEX) is None, before
    for before in ("binance ", "= ", "ab=", "binance =\n", "binance=" + " " * 5):
        assert around("service", before, KEY) is None, before
    assert around("service", "binance=", "an_ordinary_name_of_things") is None


def test_last_field_of_a_password_file_is_taken_with_a_digit():
    assert taken("pgpass", "x\nhost:5432:db:ann:", PASSWORD)
    assert taken("pgpass", "*:*:*:ann:", "hunter22")
    assert taken("pgpass", ":5432:db:ann:", PASSWORD)
    for before in ("host:5432:db:", "a:host:5432:db:ann:", "my host:5432:db:ann:", ""):
        assert around("pgpass", before, PASSWORD) is None
    assert around("pgpass", "host:5432:db:ann:", "huntershunter") is None


def test_directive_takes_a_password_with_any_digit():
    for digit in "0189":
        assert taken("directive", "requirepass ", f"hunterx{digit}")
    for value in ("hunterhunter", "hunter:/hunter", "password"):
        assert around("directive", "requirepass ", value) is None


def test_every_check_has_its_name():
    assert len(checks.CHECKS) == 24
    assert all(callable(check) for check in checks.CHECKS.values())


def test_random_value_is_judged_by_what_follows_the_prefix_of_its_provider():
    words = "ordinarynamesofordinarythingsofo"
    assert len(words) == 32
    assert around("random", "", f"x_a_{words}") is None
    assert around("random", "", f"{'desk' * 8}_{words}"[1:]) is None
    assert taken("random", "", f"x_{words}")
    assert around("random", "", f"x_{words[1:]}") is None
    assert around("random", "", f"x_{words[:16]}_{words[16:]}") is None
    assert taken("random", "", "qzxvkjwq_pfghzxqj")
    assert taken("random", "", "miuadivb_aimqswmo")
    assert taken("random", "", "abc123" * 4)
    assert around("random", "", "abc12a" * 4) is None
    assert taken("random", "", "istifrrtcrkpifirinssnlba")  # its mean cost meets the limit


def test_value_ends_where_the_match_does():
    assert around("der", "", "A" * 36 + KEY[:20], KEY) is None
    assert around("der", KEY + KEY, "A" * 36 + KEY[:20]) is None
    assert taken("github", "", f"ghp_{KEY}", " for example")
    assert around("padded", f"{KEY}{KEY} ", "A" * 60 + KEY[:20]) is None
    assert around("padded", "", "A" * 60 + KEY[:20], KEY) is None
    assert taken("padded", "", "AAX" + MAKER.of(B62, 39))
    assert around("client", "MyClient('", HEX, "', f(1))") is None
    assert taken("client", "MyClient('", KEY, "', f(1))")
    assert taken("login", "login('ann', '", PASSWORD, " and more")
    assert around("mnemonic", "", "one two three", " four" * 12) is None


def test_value_that_is_no_text_is_judged_without_an_error():
    noise = b"\xff\xfe\xfd"
    for name, check in checks.CHECKS.items():
        if name != "pem":  # its pattern takes ASCII alone
            assert check(noise * 8, 3, 21) in (None, (3, 21)), name
    assert checks.CHECKS["url"](b"postgres://" + noise + b":" + KEY.encode(), 15, 15 + 36) == (15, 51)


def test_strong_value_is_neither_a_stand_in_nor_of_another_form():
    assert around("strong", "", f"{KEY[:20]}-example") is None
    assert around("strong", "", f"0x{HEX}{HEX[:8]}") is None
    assert taken("strong", "", KEY[:16])


def test_token_of_github_is_told_by_all_but_its_last_six_characters():
    low = ("trading" * 5)[:30]
    right = checks.base62_checksum(low)
    assert taken("github", "", f"ghp_{low}{right}")
    assert around("github", "", f"ghp_{low}{right[::-1]}") is None
    assert around("github", "", f"ghp_{KEY[:15]}") is None
    assert taken("github", "", f"ghp_{KEY[:16]}")
    assert around("github", "", f"ghp_{KEY[:20]}_example") is None
    assert taken("github", "", f"ghp_{KEY[:20]}_{KEY[20:26]}")


def test_word_behind_the_prefix_of_stripe_is_none_whatever_stands_before():
    assert around("stripe", "the key is: ", "sk_live_averyordinaryname") is None
    assert taken("stripe", "the key is: ", "sk_live_qzxvkjwqpfghzxqj")
    assert taken("stripe", "", "sk_live_istifrrtcrkpifirinssnlba")  # its mean cost meets the limit
    assert taken("stripe", "", "sk_live_averyordinaryname1")


def test_private_key_has_forty_characters():
    assert around("pem", "", pem(MAKER.of(B62, 39))) is None
    assert taken("pem", "", pem(MAKER.of(B62, 40)))
    assert taken("pem", "", pem(MAKER.of(B62, 64) * 4))


def test_password_of_an_address_has_no_signs_of_a_template():
    for value in (
        "48213",
        "ab{cd9x",
        "ab}cd9x",
        "ab<cd9x",
        "ab>cd9x",
        "ab$cd9x",
        "ab(cd9x",
        "%abcd9x",
        "a1b",
    ):
        assert around("url", "postgres://ann:", value, "@host/db") is None, value
    for value in ("482137", "ab%cd9x", "ab)cd9x", "a1b2"):
        assert taken("url", "postgres://ann:", value, "@host/db"), value
    assert around("url", "postgres://" + "a" * 77 + ":", "a" * 77, "@host/db") is None
    assert around("url", "://annlee7:", "annlee7", "@host/db") is None
    assert around("url", "see https://x or ftp://annlee7:", "annlee7", "@host/db") is None


def test_password_of_six_characters_is_taken():
    assert taken("password", "", "abc12!")
    assert taken("password", "", "wintertime")
    assert taken("password", "", " abc12! ")
    for value in known.DEFAULT_PASSWORDS:
        assert around("password", "", value) is None, value
        assert around("password", "", value.upper()) is None, value
    assert around("password", "", "ab12!") is None
    assert around("password", "", " ab12! ") is None


def test_encoded_password_that_the_documentation_has_is_none():
    assert around("basic", "Basic ", basic("ann:1234")) is None
    assert taken("basic", "Basic ", basic("ann:1235"))


def test_argument_of_a_client_is_told_by_its_own_call():
    for call in (
        "desk::set_api_key(",
        "desk.set_secret(",
        "ws_client(",
        "desk::Session::new(",
        "MyBroker.connect(",
    ):
        assert taken("client", f"x = {call}'", KEY, "', f(x))"), call
    for call in ("desk::reset_key(", "desk.sessions(", "a_key("):
        assert around("client", f"x = {call}'", KEY, "', f(x))") is None, call


def test_value_under_the_name_of_a_service_may_be_indented():
    assert taken("service", "x\n  export binance=", HEX)
    assert taken("service", "\n\t'BINANCE': '", HEX)
    assert around("service", "x export binance=", HEX) is None


def test_phrase_and_function_and_line_are_told_at_their_place():
    words = "ripple ocean velvet anchor copper sunset gentle marble forest window planet silver"
    assert taken("mnemonic", "x: ", words)
    assert around("mnemonic", "x: ", words[:-7]) is None
    assert taken("returned", "def api_key(): return '", KEY)
    assert around("returned", "def get_(): return '", KEY) is None
    assert around("returned", "def get_key_path(): return '", KEY) is None
    assert around("returned", "def token_desk(): return '", KEY) is None

"""A name, what stands between, and a value: which of it is read as a credential, and where that ends."""

# A table of cases reads best in few lines.
# ruff: noqa: E501

import pytest

from cas.secretscan.assignments import accepts_cell, read_assignment
from cas.secretscan.names import NameKind, judge_name
from tests.secrets.corpus import B62, HEX, Maker

MAKER = Maker("assignments")
KEY = "k7" + MAKER.of(B62, 29) + "Z"
# Accepted where nothing is in doubt, and too short elsewhere.
SHORT = KEY[:14]
DIGEST = MAKER.of(HEX, 40)
PASSWORD = "Tr4ding#Desk"  # a sentence may hold it
PLAIN_PASSWORD = "hunterhunter22"  # no sentence may
WORD = "wintertime"  # a password where the line or the quotes leave no doubt
MADE_UP = "desk-trading-12345"
SCRAMBLED = "q4!k@z9^x(7&w0*v)j2#r%6*h5$g~8)"


def read(text, name, place="text", *, option=False):
    """Return the kind and the value that are read around the first place of a keyword, or None."""
    data = text if isinstance(text, bytes) else text.encode()
    at = data.index(name.encode())
    found = read_assignment(data, at, place, option=option)
    return None if found is None else (found.kind.kind, data[found.start : found.end].decode())


def test_name_is_read_from_its_beginning_to_its_end():
    assert read(f"db_pass = '{PASSWORD}'", "pass") == ("password", PASSWORD)
    assert read(f"x db_pass_main = '{PASSWORD}'", "pass") == ("password", PASSWORD)
    assert read(f"API KEY = '{KEY}'", "KEY") == ("key", KEY)
    assert read(f"{'desk_' * 16}api_key = '{KEY}'", "key") == ("key", KEY)
    assert read(f"api_key->'{KEY}'", "key") == ("key", KEY)
    assert read(f"api_key. = '{KEY}'", "key") is None
    assert read(f"next_page_token = '{KEY}'", "token") is None


@pytest.mark.parametrize("escape", ["n", "r", "t"])
def test_name_behind_an_escaped_line_break_begins_behind_it(escape):
    assert read(f"x: 1\\{escape}db_pass: '{PASSWORD}'", "pass") == ("password", PASSWORD)
    assert read(f"x: 1\\Xdb_pass: '{PASSWORD}'", "pass") is None
    assert read(f"x: 1{escape}db_pass: '{PASSWORD}'", "pass") is None
    assert read(f"C:\\token = '{KEY}'", "token") == ("token", KEY)


def test_name_in_a_line_of_base64_is_none():
    noise = MAKER.of(B62, 26)
    assert read(f"{noise}_token='{KEY}'", "token") is None
    assert read(f"{noise[1:]}_token='{KEY}'", "token") == ("token", KEY)
    assert read(f"the_second_desk_of_the_third_floor_api_key='{KEY}'", "key") == ("key", KEY)


@pytest.mark.parametrize("lead", ["checksum/", "hash/", "digest/", "sha256/", "x sha256/"])
def test_name_of_a_digest_is_none(lead):
    assert read(f"{lead}api_key: '{KEY}'", "key") is None
    assert read(f"{lead.replace('/', '+')}api_key: '{KEY}'", "key") == ("key", KEY)


def test_option_stands_behind_its_name_and_a_blank():
    assert read(f"run --api-key {KEY} x", "key", option=True) == ("key", KEY)
    assert read(f"run --api-key '{SHORT}' x", "key", option=True) == ("key", SHORT)
    assert read(f"run --password {PLAIN_PASSWORD}", "password", option=True) == ("password", PLAIN_PASSWORD)
    assert read(f"run --password {WORD}", "password", option=True) is None
    assert read(f"run -api-key {KEY} x", "key", option=True) is None
    assert read(f"run --api-key={KEY} x", "key", option=True) is None


@pytest.mark.parametrize("end", ["", "\n", "\nx = 1\n", "  # why", ";"])
def test_one_of_several_targets_gets_the_value_at_its_place(end):
    for lead in ("", "f(a, b)\n", "\n    "):
        both = f"{lead}user, api_key = 'desk', '{SHORT}'{end}"
        assert read(both, "key", "code") == ("key", SHORT)
        assert read(f"{lead}api_key, user = '{SHORT}', 'desk'{end}", "key", "code") == ("key", SHORT)
        third = f"{lead}a, b, api_key = 'x', y, b'{SHORT}'{end}"
        assert read(third, "key", "code") == ("key", SHORT)


def test_target_without_a_text_of_its_own_gets_none():
    assert read(f"user, api_key = 'desk', {KEY}", "key", "code") is None
    assert read(f"user, api_key = 'desk',\n'{KEY}'", "key", "code") is None
    assert read(f"user, api_key = '{KEY}'", "key", "code") == ("key", KEY)
    assert read(f"user, desk = 'api_key: {SHORT}', '{KEY}'", "key", "text") == ("key", SHORT)


@pytest.mark.parametrize("name", ["key", "KEY", "keys"])
def test_key_alone_is_one_that_a_service_owns(name):
    for owner in (
        "Binance ",
        "Binance's ",
        "our Finnhub ",
        "binance(",
        "x = ccxt.kraken(a, ",
        "Kraken(a=1,\t",
    ):
        assert read(f"{owner}{name}='{KEY}'", name, "code") == ("key", KEY), owner
        assert read(f"{owner}{name}='{SHORT}'", name, "code") == ("key", SHORT), owner
    for owner in ("", "the ", "desk(", "f(binance(1), "):
        assert read(f"{owner}{name}='{KEY}'", name, "code") is None or "binance" in owner, owner


@pytest.mark.parametrize(
    "near", ["finnhub", "Kraken", "secret", "credential", "api_key", "API-KEY", "api key", "coin_base"]
)
def test_key_alone_near_a_service_needs_a_random_value(near):
    assert read(f"{near}\nkey = '{KEY}'", "key =") == ("bare-key", KEY)
    assert read(f"\nkey = '{KEY}'\n{near}", "key =") == ("bare-key", KEY)
    short, digest = f"{near}\nid: key = '{SHORT}'", f"{near}\nid: key = '{DIGEST}'"
    assert read(short, "key = ") is None
    assert read(digest, "key = ") is None
    assert read(f"{near}\nid: key = 'pip-{DIGEST}'", "key = ") is None
    assert read(f"{near}\nid: key == '{KEY}'", "key =") is None
    assert read(f"{near}\nid: key is {KEY}", "key is") is None
    assert read(f"{near}\nid: key\n  value: {KEY}", "key\n") is None


def test_key_alone_has_its_service_within_four_hundred_bytes():
    value = f"= '{KEY}'\n"
    for gap, found in ((400, ("bare-key", KEY)), (401, None)):
        assert read("finnhub" + " " * (gap - 7 - 1) + "\nkey " + value, "key ") == found
        ahead = "\nkey " + value
        assert read("\n" + ahead + " " * (gap - 7 - len(ahead) + 1) + "finnhub", "key ") == found
    assert read("tg ig is\nkey " + value, "key ") is None


@pytest.mark.parametrize("login", ["user=", "username: ", '"login" :', "host = ", "server="])
def test_pass_beside_a_login_is_a_password(login):
    for text in (f"{login}x\npass = '{PASSWORD}'", f"pass = '{PASSWORD}'\n{login}x"):
        assert read(text, "pass") == ("password", PASSWORD)
    assert read(f"{login}x\nsecret = '{KEY}'", "secret") == ("secret", KEY)


def test_pass_has_its_login_within_160_bytes():
    for gap, kind in ((160, "password"), (161, "pass")):
        assert read("user=" + " " * (gap - 6) + "\npass = 'a#b1c2d3'", "pass") == (kind, "a#b1c2d3")
        behind = " = 'a#b1c2d3'\n"
        text = "pass" + behind + " " * (gap - len(behind) - 5) + "user="
        assert read(text, "pass") == (kind, "a#b1c2d3")


def test_cell_of_a_column_is_judged_as_if_quoted():
    key, password = judge_name("api_key"), judge_name("password")
    assert accepts_cell(key, SHORT.encode())
    assert accepts_cell(password, WORD.encode())
    assert not accepts_cell(key, b"an ordinary text")
    assert not accepts_cell(password, b"\xff" + PASSWORD.encode())


@pytest.mark.parametrize(
    "between",
    [" = ", "=", ": ", " := ", " => ", " <- ", ": str = ", ": Optional[str] = ", " = b", " = (\n  ", " = other = ",
     " = SecretStr(", " = f(1, default=", ' = os.environ["X"] if live else '],
    ids=ascii,
)  # fmt: skip
def test_quoted_value_of_code_is_read_behind(between):
    assert read(f"x = 1\napi_key{between}'{SHORT}'\n", "key", "code") == ("key", SHORT)


def test_type_is_passed_over_where_nothing_was_closed():
    assert read(f"'api_key': note = '{KEY}'", "key", "code") is None
    assert read(f"api_key\\: str = '{KEY}'", "key", "code") == ("key", KEY)


def test_value_lies_within_three_calls_at_most():
    assert read(f"api_key = SecretStr(str(bytes('{SHORT}')))", "key", "code") == ("key", SHORT)
    assert read(f"api_key = SecretStr(Some(str(bytes('{SHORT}'))))", "key", "code") is None


def test_element_is_read_to_its_end():
    assert read(f"<api_key>{SHORT}</api_key>", "key") == ("key", SHORT)
    assert read(f"name='api_key'>{SHORT}</a>", "key") == ("key", SHORT)
    assert read(f"<a key='api_key'>{SHORT}</a>", "api_key") == ("key", SHORT)
    assert read(f"<a of='api_key'>{SHORT}</a>", "api_key") is None
    assert read(f"<a id = 'api_key'>{SHORT}</a>", "key") == ("key", SHORT)
    assert read(f"<api_key><![CDATA[{SHORT}]]></api_key>", "key") == ("key", SHORT)
    assert read(f"<api_key>{KEY} and more</api_key>", "key") is None
    assert read(f"x api_key>{KEY}</b>", "key") is None
    assert read(f"<api_key>{KEY}<b>", "key") is None
    assert read(f"api_key = <![CDATA[{KEY}]]>", "key") is None


def test_default_of_a_shell_ends_at_the_bracket():
    assert read(f"X=${{API_KEY:-{SHORT}}}/x", "KEY") == ("key", SHORT)
    assert read(f"X=${{API_KEY:-'{SHORT}}}/x", "KEY") == ("key", SHORT)
    assert read(f"X=${{API_KEY:-{SHORT} and}}", "KEY") == ("key", SHORT)
    assert read(f"Y={{x}} X=${{API_KEY:-{SHORT}}}/x", "KEY") == ("key", SHORT)
    inside = f"{KEY[:16]}}}{KEY[16:]}"
    assert read(f"api_key={inside}", "key", "config") == ("key", inside)


def test_value_in_brackets_closes_what_it_opened():
    assert read(f"secret_key={SCRAMBLED}", "key", "config") == ("key", SCRAMBLED)


@pytest.mark.parametrize("end", [*",;)]}|.", ").,", "&user=x", ";user=x", ",user=x", " x", "\\", '"', "<"])
def test_bare_value_ends_before(end):
    assert read(f"api_key={SHORT}{end}", "key") == ("key", SHORT)
    assert read(f"api_key={end}", "key") is None
    assert read(f"api_key={SHORT}{end} &x=1", "key") == ("key", SHORT)


@pytest.mark.parametrize("quote", ['"', "'", "`", '"""', "'''", '\\"', "\\\\'"])
def test_value_lies_between_quotes(quote):
    assert read(f"password = {quote}{WORD}{quote} + x", "password", "code") == ("password", WORD)
    assert read(f"password = {quote} {WORD} {quote}", "password", "code") == ("password", f" {WORD} ")


def test_value_between_three_quotes_has_two_kilobytes_with_its_end():
    body = (KEY * 64)[:2046]
    assert read(f'api_key = """{body[:-1]}"""', "key") == ("key", body[:-1])
    assert read(f'api_key = """{body}"""', "key") == ("key", body[:512])
    assert read(f'api_key = """{SHORT}""" + """x"""', "key") == ("key", SHORT)


def test_value_may_hold_an_escaped_quote_and_no_line_break():
    assert read('password = "ab\\"cd12!"', "password") == ("password", 'ab\\"cd12!')
    assert read(f"password = '{WORD}\n'", "password", "code") is None
    assert read(f"api_key = '{SHORT}\n'", "key") == ("key", SHORT)
    assert read(f"api_key = '{SHORT}\n'", "key", "code") is None


def test_value_that_is_no_text_is_none():
    assert read(b"password = '\xff\xfe" + PASSWORD.encode() + b"'", "password") is None
    assert read(f"password = '{PASSWORD}\x01'", "password") is None


def test_value_on_the_line_below_is_read_where_settings_put_it():
    for lead, indent in (("", " "), ("  ", "   "), ("- ", "    "), ("x:\n  ", "    "), ("'", "  ")):
        for end in ("", "\n", "\r\n", "\nx: 1\n"):
            text = f"{lead}password:\n{indent}{PASSWORD}{end}"
            assert read(text, "password", "config") == ("password", PASSWORD), text
            assert read(text, "password", "text") is None
    for lead, indent in (("", ""), ("  ", "  "), ("    ", "  "), ("x ", "    "), ("x:\n    ", "    ")):
        assert read(f"{lead}password:\n{indent}{PASSWORD}\n", "password", "config") is None
    assert read(f"password:\n  {PASSWORD} x\n", "password", "config") is None
    assert read(f"password:\n  {PASSWORD}\rX\n", "password", "config") is None
    assert read(f"password:\n  '{PASSWORD}\n", "password", "config") is None
    assert read(f"password:\n  {PASSWORD}:\n", "password", "config") is None
    assert read(f"password:\n  {PLAIN_PASSWORD}\n", "password", "config") is None
    assert read(f"secret_key:\n  {SCRAMBLED}\n", "key", "config") is None


def test_block_and_node_of_yaml_are_passed_over():
    for sign in ("|", ">", "|-", "!!str", "&a", "&a !!str"):
        between = "\n  " if sign[0] in "|>" else " "
        assert read(f"api_key: {sign}{between}{SHORT}\n", "key", "config") == ("key", SHORT)
    assert read(f"api_key = !!str {KEY}\n", "key", "config") is None


def test_doubtful_separator_asks_for_quotes_and_an_unmistakable_value():
    for sign in ("==", "!=", "||", "??", " or ", "("):
        assert read(f"if api_key{sign}'{KEY}':", "key", "code") == ("key", KEY), sign
        assert read(f"if api_key{sign}'{SHORT}':", "key", "code") is None, sign
        assert read(f"if api_key{sign}{KEY}:", "key") is None, sign
    assert read(f"if api_key == '{DIGEST}':", "key", "code") == ("key", DIGEST)
    assert read(f"if password == '{WORD}':", "password", "code") is None
    assert read(f"if password == '{WORD}7':", "password", "code") == ("password", f"{WORD}7")


def test_name_and_value_alone_in_a_row_are_read():
    for end in ("", "\n", "\r\n", "\nx,1\n"):
        assert read(f"api_key,{SHORT}{end}", "key") == ("key", SHORT)
        assert read(f"x,1\n  api_key,'{SHORT}'".replace("'", '"') + end, "key") == ("key", SHORT)
    assert read(f"x api_key,{SHORT}\n", "key") is None
    assert read(f'api_key,"{SHORT}",x\n', "key") is None
    assert read(f'api_key,"{SHORT}"X', "key") is None
    assert read('password,"correct horse battery staple"\n', "password") is None
    assert read(f"api_key,{KEY} x\n", "key") is None


@pytest.mark.parametrize("end", [")", "]", "}"])
def test_name_and_value_that_end_a_list_are_read(end):
    assert read(f"f('api_key', '{KEY}'{end}", "key", "code") == ("key", KEY)
    assert read(f"f('api_key', '{SHORT}'{end}", "key", "code") is None
    assert read(f"f('api_key', '{KEY}', 1{end}", "key", "code") is None
    assert read(f"f('--api-key', '{KEY}', 1{end}", "key", "code") == ("key", KEY)
    assert read(f"f('-api-key', '{KEY}', 1{end}", "key", "code") is None
    assert read(f"f(api_key), '{KEY}'{end}", "key", "code") is None


def test_value_that_a_name_is_compared_with_is_read():
    for call in ("compare_digest(", "crypto.timingSafeEqual(", "hmac.compare_digest( x."):
        assert read(f"{call}api_key, '{SHORT}')", "key", "code") == ("key", SHORT)
    assert read(f"other(api_key, '{KEY}')", "key", "code") is None


@pytest.mark.parametrize(
    "call",
    ["define('", 'define("', "define(b'", "define(u'", "define(r'", "define(\\'", "os.getenv('", "config( '"],
)
def test_default_of_a_setting_is_read(call):
    quote = call[-1]
    close = f"\\{quote}" if "\\" in call else quote
    assert read(f"{call}API_KEY{close}, '{SHORT}', x)", "KEY", "code") == ("key", SHORT)


def test_default_of_a_setting_is_told_by_the_forty_bytes_before():
    for blanks, found in ((32, ("key", SHORT)), (33, None)):
        assert read(f"x define({' ' * blanks}'API_KEY', '{SHORT}')", "KEY", "code") == found
    assert read(f"define(X'API_KEY', '{SHORT}')", "KEY", "code") is None


def test_digest_of_what_a_call_was_given_is_no_credential():
    assert read(f"sha256(api_key) == '{DIGEST}'", "key", "code") is None
    assert read(f"sha256(api_key) == '{KEY}'", "key", "code") == ("key", KEY)
    assert read(f"os.environ.get('API_KEY') or '{DIGEST}'", "KEY", "code") == ("key", DIGEST)
    assert read(f"os.environ.get('API_KEY') or '{SHORT}'", "KEY", "code") == ("key", SHORT)
    assert read(f"x[(api_key)] = '{DIGEST}'", "key", "code") == ("key", DIGEST)
    assert read("sha256(api_key) == 'п7араметр'", "key", "code") is None


def test_bare_value_of_code_is_an_expression_but_in_comments_and_texts():
    assert read(f"api_key = {SHORT}\n", "key", "code") is None
    assert read(f"api_key = {SHORT}\n", "key", "config") == ("key", SHORT)
    for lead in ("# ", "x = 1  // ", "/* ", "f('", 'f("', "f(`", "y\n# "):
        assert read(f"{lead}api_key={SHORT}", "key", "code") == ("key", SHORT), lead
    for lead in ("# one\n# two\n", "f('x', ", 'f("a\\"b", ', "f(`x`, ", "'\n"):
        assert read(f"{lead}api_key={SHORT}", "key", "code") is None, lead


def test_bare_value_with_a_sign_that_no_expression_has_is_a_text():
    for sign in "#@^~!":
        assert read(f"password = Tr4ding{sign}Desk", "password", "code") == ("password", f"Tr4ding{sign}Desk")
    assert read("password = Tr4ding#Desk  # why", "password", "code") == ("password", "Tr4ding#Desk")
    assert read("password = Tr4dingDesk", "password", "code") is None
    assert read("password = Tr4ding+Desk", "password", "code") is None


def test_comment_begins_within_two_hundred_bytes():
    for text in (f"api_key = {SHORT}", f"password is {PASSWORD}"):
        name, found = text.split()[0], (("key", SHORT) if "key" in text else ("password", PASSWORD))
        assert read("#" + " " * 199 + text, name, "code") == found
        assert read("\n#" + " " * 200 + text, name, "code") is None


def test_word_is_a_password_where_the_line_holds_nothing_else():
    for end in ("", "\n", "\r\n", "\nx = 1\n"):
        for lead in ("", "  ", "export ", "x = 1\n", "$env:", "- "):
            text = f"{lead}password = {WORD}{end}"
            assert read(text, "password", "config") == ("password", WORD), text
    assert read(f"password = {WORD}\n", "password", "text") is None
    assert read(f"password = {WORD} x\n", "password", "config") is None
    assert read(f"password = {WORD}, x\n", "password", "config") is None
    assert read(f"password = {WORD}\rX\n", "password", "config") is None
    assert read(f"x y password = {WORD}\n", "password", "config") is None


@pytest.mark.parametrize(
    ("before", "between", "end", "value"),
    [
        ("- name: ", "\n  value: ", "\n", SHORT), ('{"name": "', '", "value": "', '"}', SHORT),
        ("<key>", "</key><string>", "</string>", SHORT), ('variable "', '" {\n  type = string\n  default = "', '"\n}', SHORT),
        ("| ", " | ", " |", KEY), ("the ", " is ", ".", KEY), ("the ", " was changed to ", "", KEY), ("using ", " ", "", KEY),
        ("my ", " [", "]", KEY), ("old ", ", still works: ", "", KEY), ("", "\n", "\n", KEY), ("x\n## ", ":\n  ", "\n", KEY),
        ("the ", " is SecretStr('", "')", KEY), ("x ", "=[", "]", KEY), ("x ", ": <", ">", KEY), ("x ", "=<", "> y", KEY),
    ],
    ids=ascii,
)  # fmt: skip
def test_value_near_its_name_is_read(before, between, end, value):
    assert read(f"{before}api_key{between}{value}{end}", "api_key") == ("key", value)


@pytest.mark.parametrize(
    ("before", "between", "end"),
    [
        ("variable '", "', name: 'other', default: '", "'"), ("the | ", " | ", " |"), ("x=", " ", ""), ("x:", " ", ""),
        ("using ", " session1=", ""), ("x ## ", "\n", "\n"), ("x ", " [[", "]"), ("the ", " are ", ""),
        ("key = ", " if x else f('", "')"), ("x ", "|[", "]"),
    ],
    ids=ascii,
)  # fmt: skip
def test_value_that_belongs_to_another_name_is_not_read(before, between, end):
    value = KEY if between != " are " else KEY.replace("7", "x")
    assert read(f"{before}api_key{between}{value}{end}", "api_key") is None


def test_value_near_a_name_of_which_nobody_is_sure_is_not_read():
    assert read(f"using token {KEY}", "token") == ("token", KEY)
    assert read(f"using token_desk {KEY}", "token") is None
    assert read(f"old api_key, still works: {DIGEST}", "key") is None
    assert read(f"old password, still works: п7араметр#{PASSWORD}", "password") == (
        "password",
        f"п7араметр#{PASSWORD}",
    )
    for text in (f"the pass is {PASSWORD}", f"a pass, still works: {PASSWORD}"):
        assert read(text, "pass") is None
        assert read(text.replace("pass", "pwd"), "pwd") == ("password", PASSWORD)


@pytest.mark.parametrize(
    "lead", [b"\x94\x8c ", b"\x94X    ", b"\xd9 ", b"\xda  ", b"\xb0", b"\x00 \x00\x00\x00"], ids=ascii
)
def test_packed_string_is_read_behind_its_name(lead):
    for value, found in ((KEY, ("key", KEY)), (KEY[:15], None)):
        assert read(b"\x07api_key" + lead + value.encode() + b"\x00", "key") == found
    number = f"{PLAIN_PASSWORD}44"
    assert read(b"password" + lead + number.encode() + b"\x94", "password") == ("password", number)
    assert read(b"password" + lead + b"wintertimewintertime\x94", "password") is None


def test_sentence_tells_a_password_by_its_signs():
    for value in (PASSWORD, "Winter_1847", "k7Xq2Zp9Lw", "1234#abcd"):
        assert read(f"the password is {value} now", "password") == ("password", value), value
    for value in (WORD, PLAIN_PASSWORD, "trading#desk", "1234#56789", "k7Xq2Zp9L", "Winter1847"):
        assert read(f"the password is {value} now", "password") is None, value
    assert read(f"the password is {PASSWORD}", "password", "code") is None
    assert read(f"# the password is {PASSWORD}", "password", "code") == ("password", PASSWORD)
    assert read(f"# password is {PASSWORD}"[1:], "password", "code") is None
    assert read(f"#password is {PASSWORD}", "password", "code") == ("password", PASSWORD)
    assert read(f"log('password is {PASSWORD}", "password", "code") == ("password", PASSWORD)
    assert read(f"# one\n# two\npassword is {PASSWORD}", "password", "code") is None
    assert read(f"password=[{PLAIN_PASSWORD}44]", "password") is None


def test_pass_is_a_password_by_its_signs_or_digits():
    for value in (
        "'trading#desk'",
        "trading#desk",
        "'tradingdesk7'",
        "k7Xq2Zp9Lw",
        "'k7Xq2Zp9Lw'",
        "'a#b1c2'",
    ):
        assert read(f"pass={value}", "pass", "config") == ("pass", value.strip("'")), value
    for value in (f"'{WORD}'", WORD, "tradingdesk7", "'12345'", "f(x)a1b2", "a#b1c2"):
        assert read(f"pass={value}", "pass", "config") is None, value
    assert read("pass = k7Xq2Zp9LwB4mT6s", "pass", "code") is None


def test_password_has_six_characters_and_may_be_a_number_in_quotes():
    assert read("password = 'ab1#xy'", "password") == ("password", "ab1#xy")
    assert read("password = 'ab1#x'", "password") is None
    assert read("password = '83451927'", "password") == ("password", "83451927")
    assert read("password = 83451927", "password", "config") is None
    assert read("api_key = '8345192712345678'", "key") is None
    assert read("password = 'changeme123'", "password") is None
    assert read("password = 'ann@example.org'", "password") is None


def test_password_in_doubt_is_a_long_random_one():
    assert read(f"password = {KEY[:16]}", "password", "code") == ("password", KEY[:16])
    assert read(f"password = {KEY[:15]}", "password", "code") is None
    assert read(f"password_desk = '{KEY[:16]}'", "password") == ("password", KEY[:16])
    assert read(f"password_desk = '{KEY[:15]}'", "password") is None


def test_attribute_of_code_is_no_value():
    dotted = f"{KEY[:-1]}x.{SHORT}"
    assert read(f"api_key = {dotted}", "key", "config") == ("key", dotted)
    assert read(f"api_key = {dotted}", "key", "code") is None
    assert read(f"api_key = '{dotted}'", "key", "code") == ("key", dotted)


def test_scrambled_value_is_read_where_its_extent_is_certain():
    assert read(f"secret_key = '{SCRAMBLED}'", "key") == ("key", SCRAMBLED)
    assert read(f"secret_key = {SCRAMBLED}\n", "key", "config") == ("key", SCRAMBLED)
    assert read(f"secret_key = {SCRAMBLED}\n", "key", "text") is None
    assert read(f"secret_key_desk = '{SCRAMBLED}'", "key") is None


def test_recovery_phrase_is_read_under_its_name_only():
    words = "ripple ocean velvet anchor copper sunset gentle marble forest window planet silver"
    assert read(f"mnemonic = '{words}'", "mnemonic") == ("mnemonic", words)
    assert read(f"mnemonic = '{KEY}'", "mnemonic") is None
    assert read(f"api_key = '{words}'", "key") is None


def test_secret_of_aws_is_read_even_when_it_is_the_documented_example():
    example = MAKER.of(B62, 33) + "EXAMPLE"
    assert read(f"aws_secret_access_key = '{example}'", "secret") == ("aws-secret", example)
    assert read(f"api_key = '{example}'", "key") is None
    assert read(f"aws_secret_access_key = '{KEY}'", "secret") == ("aws-secret", KEY)


def test_key_of_a_wallet_is_read_under_its_name_only():
    phrase = "tradingdesk" * 5
    assert read(f"private_key = '{phrase}'", "key") == ("wallet", phrase)
    assert read(f"api_key = '{phrase}'", "key") is None
    assert read("private_key = 'tradingdesk'", "key") is None


def test_made_up_value_is_read_in_quotes_as_a_key_or_a_secret():
    assert read(f"api_key = '{MADE_UP}'", "key") == ("key", MADE_UP)
    assert read(f"secret = '{MADE_UP}'", "secret") == ("secret", MADE_UP)
    assert read(f"access_token = '{MADE_UP}'", "token") is None
    assert read(f"api_key = {MADE_UP}", "key", "config") is None
    assert read(f"api_key == '{MADE_UP}'", "key") is None


def test_name_of_which_nobody_is_sure_needs_a_value_that_is_no_digest():
    assert read(f"token_desk = '{KEY}'", "token") == ("token", KEY)
    assert read(f"token_desk = '{SHORT}'", "token") is None
    assert read(f"token_desk = '{DIGEST}'", "token") is None
    assert read(f"token = '{DIGEST}'", "token") == ("token", DIGEST)


def test_kind_tells_whose_credential_it_is():
    data = f"binance_api_key = '{KEY}'".encode()
    assert read_assignment(data, data.index(b"key"), "code").kind == NameKind("key", sure=True, trading=True)
    data = f"Binance key = '{KEY}'".encode()
    assert read_assignment(data, data.index(b"key"), "code").kind == NameKind("key", sure=True, trading=True)
    data = f"finnhub\nkey = '{KEY}'".encode()
    assert read_assignment(data, data.index(b"key"), "code").kind == NameKind(
        "bare-key", sure=True, trading=True
    )

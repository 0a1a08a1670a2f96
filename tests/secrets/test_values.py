"""Values by themselves: what stands in for a credential, what has another form, and what a machine has drawn."""

import pytest

from cas.secretscan import values
from tests.secrets.corpus import B62, Maker

MAKER = Maker("values")
KEY = MAKER.of(B62, 32)
HEX = MAKER.of("0123456789abcdef", 40)
STAND_INS = (
    "", "0000", "abab", "aabbcc", "null", "None", "a...b1c2", "pass***word1", "abcXXXXXdef", "zz1111111zz",
    "\u2022\u2022\u2022\u2022", "####", "____", "???", "your-api-key", "changeme", "change_me_now", "replace-me-9",
    "insert_token_1", "dummy-value-1", "REDACTED-1", "key-goes-here", "token_here_1", "placeholder1", "an-example-9",
)  # fmt: skip
OTHER_FORMS = (
    "12.5", "-1_000", "3e-7", "55%", "0x1F", "2025-11-07", "20251107T1430", "2025-11-07 14:30:00Z", "14:30:01",
    f"0x{HEX}", "ann@example.org", "settings.yaml", "a/b/key.pem", "<|endoftext|>", "https://example.org/x",
    "name:", "~/keys/mine", "C:\\keys", "./a/b", "db.example.org:5432", "api.example.org/v1",
)  # fmt: skip
WRITTEN = (
    "", KEY[:5], f"{KEY[:16]} {KEY[16:]}", f"\u00e9{KEY}", "aaaaabbbbb" * 4, "!!##$$%%&&a1" * 3,
    "ordinaryNameOfThings", "sma20x50", "get_latest_prices", "ORDINARY_SETTING", "moving-average-20",
)  # fmt: skip


@pytest.mark.parametrize("value", STAND_INS, ids=ascii)
def test_value_that_says_it_is_none_stands_in(value):
    assert values.is_stand_in(value)
    assert values.is_stand_in(f" {value} ")


def test_value_that_can_be_one_does_not_stand_in():
    for value in (KEY, "hunter2X!", "Winter_1847", "abcd", "correct7horse", HEX):
        assert not values.is_stand_in(value), value


@pytest.mark.parametrize("value", OTHER_FORMS, ids=ascii)
def test_value_of_another_form_is_no_credential(value):
    assert values.is_something_else(value)


def test_value_of_no_other_form_may_be_one():
    for value in (KEY, f"{KEY}.pem", f"{KEY[:16]}/{KEY[16:]}", "river.stone84", "hunter2"):
        assert not values.is_something_else(value), value


def test_file_named_by_a_digest_or_in_a_folder_is_a_file():
    assert values.is_something_else(f"{HEX}.json")
    assert values.is_something_else(f"keys/{KEY}.json")
    assert not values.is_something_else(f"{KEY}.json")


def test_value_that_a_machine_drew_is_random():
    for value in (KEY, HEX, "123e4567-e89b-12d3-a456-426614174000", f"sk-{KEY}", KEY.swapcase()):
        assert values.is_random(value), value


@pytest.mark.parametrize("value", WRITTEN, ids=ascii)
def test_value_that_a_person_wrote_is_not_random(value):
    assert not values.is_random(value)


def test_least_length_is_the_callers():
    assert values.is_random(KEY, 32)
    assert not values.is_random(KEY, 33)


def test_surprise_is_more_for_noise_than_for_words_and_nothing_for_numbers():
    assert values.surprise_bits("12345678") == 0.0 < values.surprise_bits("123456789")
    assert values.surprise_bits("") == 0.0
    assert values.surprise_bits("moving_average_price") < 4.6 < values.surprise_bits("qzxvkjwqpfgh")
    assert values.surprise_bits("movingAverage") == values.surprise_bits("moving_average")
    assert values.surprise_bits("MOVING-AVERAGE") == values.surprise_bits("moving_average")


def password(value, *, quoted=True, whole_line=False):
    return values.is_password(value, quoted=quoted, whole_line=whole_line)


def test_letters_with_digits_or_signs_are_a_password_from_a_length_on():
    assert password("abc12!")
    assert not password("ab12!")
    assert password("abcd12!x", quoted=False)
    assert not password("abc12!x", quoted=False)
    for code in ("f(x)abc1", "a[0]abcd", "x=>y1234", "ab\\d{3}cd", "a::b1234", "<b>bold1</b>"):
        assert not password(code)


def test_signs_and_digits_alone_are_a_password_in_quotes_only():
    assert password("1234!#$%")
    assert not password("1234!#$%", quoted=False)
    assert not password("1234!#$")
    assert not password("11112222")
    assert not password("\u043f\u0430\u0440\u043e\u043b\u044c\u0434\u043b\u044f")


def test_words_are_a_password_where_nothing_else_can_be_meant():
    assert password("wintertime")
    assert password("wintertime", quoted=False, whole_line=True)
    assert not password("wintertime", quoted=False)
    assert password("sunshine")
    assert not password("sunshine", quoted=False, whole_line=True)
    assert not password("sunshin")
    assert password("qzxvkjwq", quoted=False)


def test_word_for_a_credential_is_a_password_when_it_boasts():
    assert password("superSecretPassword")
    assert password("mySecretToken")
    assert not password("secretPassword")
    assert not password("superSecretPassword", quoted=False)


def test_phrase_of_four_to_twelve_plain_words_is_a_password_in_quotes():
    assert password("correct horse battery staple")
    assert password("correct horse battery 4711")
    for phrase in (
        "correct horse battery",
        "correct horse battery Staple",
        "correct horse battery, staple",
    ):
        assert not password(phrase)
    assert not password(" ".join(["horse"] * 13))
    assert password(" ".join(["horse"] * 12))
    assert not password("correct horse battery staple", quoted=False)
    assert not password("this is the battery")


def test_recovery_phrase_has_twelve_to_twenty_five_short_words():
    words = [
        "ripple",
        "ocean",
        "velvet",
        "anchor",
        "copper",
        "sunset",
        "gentle",
        "marble",
        "forest",
        "window",
        "planet",
        "silver",
    ]
    assert values.is_mnemonic(" ".join(words))
    assert values.is_mnemonic(",".join(words))
    assert values.is_mnemonic(" ".join((words * 3)[:25]))
    for wrong in (
        words[:11],
        (words * 3)[:26],
        ["Ripple", *words[1:]],
        ["ab", *words[1:]],
        ["abcdefghi", *words[1:]],
    ):
        assert not values.is_mnemonic(" ".join(wrong))
    assert not values.is_mnemonic(" ".join(["the", *words[1:]]))


def test_forms_of_keys_are_told_by_alphabet_and_length():
    secret = MAKER.of(B62, 40)
    assert values.is_aws_secret(secret)
    for wrong in (secret[:39], secret + "a", HEX, "Ab" * 20):
        assert not values.is_aws_secret(wrong)
    key = MAKER.of("0123456789abcdef", 64)
    for right in (
        key,
        f"0x{key}",
        key.upper(),
        MAKER.of("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", 51),
    ):
        assert values.is_wallet_key(right)
    assert values.is_wallet_key(("0123456" * 10)[:64])
    for wrong in (key[:63], "ab" * 32, ("012345" * 11)[:64]):
        assert not values.is_wallet_key(wrong)


def test_words_and_numbers_are_told_from_names():
    assert values.is_word_and_number("Winter_1847")
    assert values.is_word_and_number("winter.18")
    for wrong in ("Win_1847", "Winter1847", "winter_1", "winter_1234567", "WINTER_1847"):
        assert not values.is_word_and_number(wrong)
    assert values.has_symbol("a#b")
    assert not values.has_symbol("a_b-c. d/e:f,g%1")
    assert values.is_hex("00ff-AA")
    assert not values.is_hex("00fg")
    assert not values.is_hex("")
    assert values.is_dotted("config.api.key")
    assert not values.is_dotted("apikey")


def test_made_up_credential_has_letters_and_four_digits():
    assert values.is_made_up("my-token-12345")
    assert not values.is_made_up("my-token-123")
    assert not values.is_made_up("backup-20250101")


def test_reference_to_where_a_credential_is_kept_stands_in():
    for value in (
        "config.api.key",
        "settings.password",
        "os.environ['X']",
        f"${{{KEY}}}",
        f"os.environ[{KEY}]",
    ):
        assert values.is_stand_in(value), value

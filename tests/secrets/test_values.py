"""Values by themselves: what stands in for a credential, what has another form, and what a machine has drawn."""

# A table of cases reads best in few lines.
# ruff: noqa: E501

import pytest

from cas.secretrules.letters import ALPHABET, BIGRAM_BITS
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
    for value in ("river.stone-bridge.84", "river.stone.bridge.841", "river.stone-84"):
        assert not values.is_something_else(value), value
        assert not values.is_stand_in(value), value
    for value in ("db-1.river.internal", "river.stone-8", "node84.river"):
        assert values.is_something_else(value), value


def test_place_in_a_format_counts_unless_chance_put_it_into_long_random_text():
    for value in ("%s", "key-%s", "%s-hunter2-%d", "%r"):
        assert values.is_stand_in(value), value
    assert not values.is_stand_in(f"{KEY[:9]}%d#{KEY[9:]}")


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


def test_placeholder_is_a_word_of_its_own_or_a_long_one():
    for value in ("undefined", "UserName", "tbd-4711-ab9", "4711.foo", "abcTodo4", "sample-4711", "do_not_commit_7",
                  "tokenhere7", "7k2Q9xTodo4Zr8Lw", "7k2Q9xEmpty4Zr8Lw2Pq6Vn3T7"):  # fmt: skip
        assert values.is_stand_in(value), value
    for value in ("9tbd7x3k", "7k2Q9xTodo4Zr8Lw2Pq6Vn3T7", "unfoo-4711"):
        assert not values.is_stand_in(value), value


def test_attribute_of_random_names_stands_in_unless_it_is_long():
    assert values.is_stand_in(f"k{KEY[:7]}.{KEY[8:15]}")
    assert not values.is_stand_in(f"k{KEY}.{KEY}")


def test_random_text_between_signs_is_no_path_and_no_host():
    assert not values.is_something_else("k7/uw/NA/nz/Mf/w3/7v/Ba/mX")
    assert not values.is_something_else("k7.uw.na.nz.mf.w3.7v.ba.mx")
    assert values.is_something_else("my/own/little/path")
    assert values.is_something_else("my.own.little.host")


def bits(pair):
    first, second = (ALPHABET.index(character) for character in pair)
    return int(BIGRAM_BITS[first][second], 16)


def test_surprise_is_the_mean_of_the_pairs_of_letters():
    assert values.surprise_bits("a") == (bits("_a") + bits("a_")) / 2
    assert values.surprise_bits("ab") == (bits("_a") + bits("ab") + bits("b_")) / 3
    assert values.surprise_bits("a-b") == (bits("_a") + bits("a_") + bits("_b") + bits("b_")) / 4
    assert values.surprise_bits("--A..1") == values.surprise_bits("a-12345678") == values.surprise_bits("a")
    assert values.surprise_bits("a-123456789") != values.surprise_bits("a")
    assert values.surprise_bits("qZxvKjWqPfGh") == values.surprise_bits("qzxvkjwqpfgh")
    assert values.surprise_bits("fastMovingAverage") == values.surprise_bits("fast_moving_average")


def test_camel_case_is_told_piece_by_piece():
    for value in (
        "",
        "movingAverage",
        "moving-averagePrice",
        "SMA20",
        "HTTPServer",
        "getURL",
        "UPPER-lowerCase",
        "EMA20Cross",
    ):
        assert values._is_camel(value), value
    for value in ("aB", "qZxvKj", "moving-aB", "aB-moving", "KjWqP"):
        assert not values._is_camel(value), value


@pytest.mark.parametrize(
    "value",
    [
        # A piece of ten with letters and digits in turns; signs of less than a third; six different characters.
        "sma20sma20-de", "k7uwNAnzMfw37v!#!#!#", "a1b2c3a1b2c3",
        # Letters and a number, where the mean cost meets its limit or lies above it.
        "pileisifyxtc77", "siearbsgsofy28", "gmarilirmmqqroicfypsme52",
        # Cases mixed as no name mixes them.
        "anaTWaRHNgmhMP", "HpWkeAssHiKHOn", "sLDCYnFOIDsiireCAXEgREax",
        # One alphabet.
        "vnapkxiclcdlwallf", "lcktdpsukghaxidw", "nkbontflozohlstyavshyrch",
    ],
)  # fmt: skip
def test_value_at_its_limit_is_random(value):
    assert values.is_random(value)


@pytest.mark.parametrize(
    "value",
    [
        "ma20sma20-des", "sma2024sma-desk", "sma20x50-desk", "k7uwNAnzMfw37!#!#!#!", "a1b2ca1b2ca1b2c", "k7uwNAnzMfw",
        "nvestevrrchm46", "scqrigmarilirmmqqroic49", "xofffinourialocjpeqpc97", "ulspOBRSscbaOr",
        "rgztrsjoctzmksh", "miuadivbaimqswmo", "ukequtraulcuuvdbyvathout", "UKEQUTRAULCUUVDBYVATHOUT", "ab12-cd34-ef56",
    ],
)  # fmt: skip
def test_value_just_below_its_limit_is_not_random(value):
    assert not values.is_random(value)


def test_scrambled_value_has_its_length_digits_and_signs():
    value = "q4!k@z9^x(7&w0*v)j2#r%6*"
    assert len(value) == 24
    assert values.is_scrambled(value)
    assert values.is_scrambled("qk!zx@wv^jr(xkqzwv1j2k3z")
    for wrong in (value[1:], value[:-1] + "\u00e9", value[:-1] + "<", "qk!zx@wv^jr(xkqzwv1j2kyz", "qk!zx@wv^jr-xkqzwv1j2k3z",
                  "moving!average@price^of(123"):  # fmt: skip
        assert not values.is_scrambled(wrong), wrong


def test_password_of_letters_is_told_by_how_unusual_they_are():
    for value in ("yVAPfaMmS", "OOfEWnsaS", "mynbiqpm", "deiabbgvi", "dlnktugrp", "DLNKTUGRP"):
        assert password(value, quoted=False), value
    for value in ("ghaxidwhl", "GHAXIDWHL", "ocKOIMReb", "mynbiqp", "ppuvgrtha"):
        assert not password(value, quoted=False), value


def test_password_is_told_at_each_length():
    assert password("ab!def")
    assert password("trading#desk")
    assert not password("tra-ding", quoted=False)
    assert password("12341234")
    assert not password("12312312")
    assert password("1234!#$%")
    assert password("mySecretWord")
    assert not password("mySecretWor")
    assert password("summertime", quoted=False, whole_line=True)
    assert not password("sunflower", quoted=False, whole_line=True)
    assert password("seaside-town")
    assert not password("sea-towns")


def test_phrase_has_no_upper_case_and_no_signs():
    assert password("1 2 3 4")
    for phrase in (
        "correct horse Battery staple",
        "correct horse b-ttery staple",
        "horse battery staple",
        "correct horse in battery",
    ):
        assert not password(phrase)


def test_expression_is_no_password():
    for code in ("abc1[0]", "abc1{x}", "abc1(x)", "abc1\\w", "abc1\\s", "abc1=>x", "abc1(?x", "abc1</b>", "abc1<b>", "f(abc1!", "a::b1!",
                 "abc1[^x"):  # fmt: skip
        assert not password(code), code
    for value in ("abc1[x", "abc1=x", "abc1:x!", "abc1<x!"):
        assert password(value), value


def test_recovery_phrase_may_have_words_of_three_and_of_eight_letters():
    words = [
        "sun",
        "mountain",
        *["gentle", "marble", "forest", "window", "planet", "silver", "ocean", "velvet", "anchor", "copper"],
    ]
    assert values.is_mnemonic(" ".join(words))
    for wrong in ("su", "mountains", "sun1", "Sun", "s-n"):
        assert not values.is_mnemonic(" ".join([wrong, *words[1:]]))


def test_forms_of_keys_have_enough_different_characters():
    assert values.is_aws_secret(("ABCDEFGHIJK" * 4)[:40])
    assert not values.is_aws_secret(("ABCDEFGHIJ" * 4)[:40])
    assert not values.is_aws_secret(("abcdefghijk" * 4)[:40])
    assert values.is_made_up("abcdefghij1234")
    assert not values.is_made_up("abcdefghijk123")
    assert not values.is_made_up("abc-1234")
    assert values.is_named_digest(f"pip-{HEX}")
    assert values.is_named_digest(f"sha256:cache/{HEX}")
    for wrong in (HEX, f"pip{HEX}", f"pip-{HEX[:31]}", f"pip-{HEX.upper()}G"):
        assert not values.is_named_digest(wrong)
    assert not values.is_word_and_number("total_1847")
    assert values.has_symbol("#")
    assert values.has_symbol("\u00a3")
    assert not values.has_symbol("aXb")


def test_form_is_told_by_the_whole_value():
    for value in ("x2025-11-07", "ann@example.org!", f"0x{HEX}0g", "<|endoftext|>x"):
        assert not values.is_something_else(value), value
    assert values.is_something_else("Ag" + "aB3/" * 70)
    assert not values.is_dotted("config.")


def test_scheme_or_colon_tells_that_a_value_is_something_else():
    assert values.is_something_else(f"s3://{KEY}")
    assert values.is_something_else(f"{KEY}:")

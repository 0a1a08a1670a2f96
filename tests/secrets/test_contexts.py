"""In how many places, by language and format, the gate finds a credential, and that a stand-in is found in none."""

# A list reads best in few lines.
# ruff: noqa: E501

import pytest

from cas.secretscan import SecretScanner
from tests.secrets.contexts import NAMES, OPEN_PLACES, PLACES, drawn, written
from tests.secrets.corpus import B62, DIGITS, HEX, UPPER, URLSAFE, Maker

SCANNER = SecretScanner(engine="python")
DRAWS = {
    "password": [
        lambda m: m.pick("Falcon", "Winter", "Kestrel") + m.pick("!", "#", "_") + str(m.number(100, 9999)),
        lambda m: m.of(B62, 9) + m.of(DIGITS, 1) + m.of(B62 + "!#*_-", 4) + m.of(B62, 1),
    ],
    "secret": [lambda m: m.of(B62, 40), lambda m: m.of(HEX, 64)],
    "key": [lambda m: m.of(B62, 32), lambda m: m.of(UPPER + DIGITS, 20)],
    "token": [lambda m: m.of(B62, 36), lambda m: m.of(B62, 1) + m.of(URLSAFE, 41) + m.of(B62, 1)],
}
# Known to be missed, each for a reason: the value comes before its name, or the program says only elsewhere what it is.
MISSED = {"json value name", "yaml env list swapped", "py print", "sh printf", "sql default"}
IN_BRACKETS = {"log brackets", "log angle"}  # only what a machine has drawn counts there
MISSED_OPEN = {"sql pgcrypto"}
# fmt: off
STAND_INS = (
    "", "YOUR_VALUE_HERE", "<secret>", "${X}", "$X", "{{ x }}", "None", "null", "changeme", "***", "xxxxxxxx", 'os.environ["X"]',
    "string", "%(x)s", "...", ":x", "true", "<your api key>", "REDACTED", "{value}", "get_value()", "your-api-key", "placeholder",
)
# fmt: on


@pytest.mark.parametrize("place", sorted(set(PLACES) - MISSED))
def test_named_credential_is_found_in(place):
    missed = []
    for kind, draws in DRAWS.items():
        for number, draw in enumerate(draws):
            name, data = written(place, kind, draw(Maker(f"{place}/{kind}/{number}")))
            missed += [] if SCANNER.scan(data, name) else [(kind, data)]
    # A password of jumbled letters or of a word and a number reads as a name where nothing says that it is a value.
    assert [each for each in missed if each[0] != "password"] == []
    assert len(missed) <= (2 if place in IN_BRACKETS else 1)


@pytest.mark.parametrize("place", sorted(MISSED))
def test_place_that_is_known_to_be_missed_still_is(place):
    name, data = written(place, "token", Maker(place).of(B62, 36))
    assert SCANNER.scan(data, name) == []


@pytest.mark.parametrize("place", sorted(set(OPEN_PLACES) - MISSED_OPEN))
def test_credential_without_a_name_is_found_in(place):
    missed = [
        data
        for seed in range(6)
        for name, data in [drawn(place, Maker(f"{place}/{seed}"))]
        if not SCANNER.scan(data, name)
    ]
    assert len(missed) <= 1, missed


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("stand_in", STAND_INS)
def test_stand_in_is_found_in_no_place(kind, stand_in):
    accused = [place for place in PLACES if SCANNER.scan(*reversed(written(place, kind, stand_in)))]
    assert accused == (
        [] if stand_in else [place for place in accused if place == "log pair" and kind == "password"]
    )


NUMBERS_AND_DIGESTS = (
    lambda m: m.of(DIGITS, 12),
    lambda m: f"{m.number(1, 10**6)}.{m.number(0, 99)}",
    lambda m: m.date(),
    lambda m: m.of(HEX, 64),
    lambda m: m.of(HEX, 40),
    lambda m: m.uuid(),
)
ORDINARY_NAMES = {"s": "prompt_hash", "c": "promptHash", "u": "GIT_COMMIT", "k": "cache-key"}


@pytest.mark.parametrize("place", sorted(place for place in PLACES if "Secret" not in PLACES[place][2]))
def test_digest_number_and_id_under_ordinary_names_are_found_in_no_place(place):
    name, style, text = PLACES[place]
    for number, draw in enumerate(NUMBERS_AND_DIGESTS):
        value = draw(Maker(f"{place}/{number}"))
        ordinary = text.replace("NAME", ORDINARY_NAMES[style]).replace("VALUE", value)
        assert SCANNER.scan((ordinary + "\n").encode(), name) == [], ordinary

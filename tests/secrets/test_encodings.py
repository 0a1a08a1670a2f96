"""Text behind base64 and UTF-16: decoded from a bounded stretch, with the place in the file it came from."""

import base64
import re

import pytest

from cas.secretrules import WRAPPED_LITERALS
from cas.secretscan import scanner
from cas.secretscan.encodings import decode_base64, wide_texts, wrapped_anchors

PLAIN = bytes(ord("a") + number * 7 % 26 for number in range(3000))


def test_wrapped_anchors_find_every_beginning_at_every_shift():
    anchors = [(re.compile(anchor.anchor.expression), anchor) for anchor in wrapped_anchors()]
    for literal in WRAPPED_LITERALS:
        for shift in range(3):
            for before, after in ((b"\x00\x7f"[:shift], b"xyz"), (b"\xffA"[:shift], b"\x00\x01\xfe")):
                encoded = base64.b64encode(before + literal + after)
                assert any(
                    match.start() % 4 == anchor.quad_at
                    for pattern, anchor in anchors
                    for match in pattern.finditer(encoded)
                ), (literal, shift)


def test_wrapped_anchors_say_what_their_expression_matches():
    for anchor in wrapped_anchors():
        fixed = anchor.anchor
        assert fixed.width == len(fixed.literal) >= 4
        assert fixed.literal == fixed.literal.lower()
        assert fixed.literal_at == 0
        spelled = re.compile(fixed.expression, re.IGNORECASE).fullmatch(fixed.literal)
        assert spelled
        assert 0 <= anchor.quad_at < 4


@pytest.mark.parametrize("offset", range(12))
def test_decode_base64_from_any_place_gives_the_text_around_it(offset):
    encoded = base64.b64encode(PLAIN[:60])
    decoded = decode_base64(encoded, offset, offset % 4)
    assert decoded.text == PLAIN[:60]
    assert (decoded.start, decoded.scale) == (0, (4, 3))


@pytest.mark.parametrize("before", [b"", b"x = '", b"\n", b"a: "])
def test_decode_base64_stops_at_what_is_no_base64(before):
    encoded = base64.b64encode(PLAIN[:30])
    decoded = decode_base64(before + encoded + b"'; more", len(before) + 5, 1)
    assert decoded.text == PLAIN[:30]
    assert decoded.start == len(before)
    assert decoded.origin(0) == len(before)
    assert decoded.origin(3) == len(before) + 4
    assert decoded.origin(7) == len(before) + 9


@pytest.mark.parametrize("at", [4, 5])
def test_decode_base64_does_not_step_over_the_end(at):
    encoded = base64.b64encode(PLAIN[:30])
    assert decode_base64(encoded + b"'QUJDREVG'", at, at - 4).text == PLAIN[:30]


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5])
def test_decode_base64_cut_short_gives_the_whole_bytes_of_it(missing):
    encoded = base64.b64encode(PLAIN[:60])[:-missing]
    text = decode_base64(encoded, 8, 0).text
    assert text == PLAIN[: len(encoded) * 6 // 8]


def test_decode_base64_whose_group_begins_outside_is_none():
    encoded = base64.b64encode(PLAIN[:30])
    assert decode_base64(encoded, 1, 2) is None
    assert decode_base64(encoded, 1, 1).text == PLAIN[:30]
    assert decode_base64(b"-" + encoded, 2, 2) is None
    assert decode_base64(b"ab-d" + encoded, 7, 3).text == PLAIN[:30]
    assert decode_base64(b"a-" + encoded[2:], 3, 3) is None


def test_decode_base64_looks_back_512_and_ahead_2048_characters():
    encoded = base64.b64encode(PLAIN)
    decoded = decode_base64(encoded, 1000, 0)
    assert decoded.start == 1000 - 512
    assert decoded.text == base64.b64decode(encoded[1000 - 512 : 1000 + 2048])
    near = decode_base64(encoded, 512 + 3, 3)
    assert near.start == 0
    assert decode_base64(encoded, 516, 0).start == 4


def test_decode_base64_does_not_look_back_into_half_a_group():
    encoded = base64.b64encode(PLAIN[:30])
    decoded = decode_base64(b"=abc" + encoded, 4 + 8, 0)
    assert decoded.start == 4
    assert decoded.text == PLAIN[:30]


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("before", [b"", b"binary\xff\xfe"])
def test_wide_texts_are_read_in_either_order_of_bytes(order, before):
    data = before + "api_key = 1234".encode(order) + b"\xff\xff"
    (decoded,) = wide_texts(data)
    assert decoded.text == b"api_key = 1234"
    assert decoded.scale == (2, 1)
    assert data[decoded.origin(4)] == ord("k")


def test_wide_texts_of_odd_length_leave_out_the_half_character():
    data = "password=1".encode("utf-16-le") + b"x"
    (decoded,) = wide_texts(data)
    assert decoded.text == b"password=1"
    assert decoded.start == 0


@pytest.mark.parametrize(
    ("before", "after"), [(b"\xff\xff", b""), (b"", b"\xff\x00"), (b"\xff\xff", b"\xff\x00")]
)
def test_wide_texts_of_odd_length_leave_out_the_half_character_wherever_they_stand(before, after):
    (decoded,) = wide_texts(before + "password=1".encode("utf-16-le") + b"x" + after)
    assert decoded.text == b"password=1"
    assert decoded.start == len(before)


def test_wide_texts_gives_every_stretch():
    one, two = "first-text".encode("utf-16-le"), "second-text".encode("utf-16-le")
    assert [decoded.text for decoded in wide_texts(one + b"\xff" * 4 + two + b"\xff")] == [
        b"first-text",
        b"second-text",
    ]
    assert list(wide_texts("short".encode("utf-16-le"))) == []
    assert list(wide_texts(b"plain text without any zero")) == []


@pytest.mark.parametrize("filler_count", [10, 30_000])
def test_finding_in_utf_16_counts_its_column_from_a_line_that_began_blocks_before(monkeypatch, filler_count):
    monkeypatch.setattr(scanner, "BLOCK_BYTES", 64 * 1024)
    text = "one\n" + "1.25, " * filler_count + 'password = "Xk29#mLq81zz"'
    (finding,) = scanner.SecretScanner(engine="python").scan(text.encode("utf-16-le"), "x.txt")
    assert (finding.line, finding.column) == (2, 2 * (text.index("Xk29") - len("one\n")) + 1)

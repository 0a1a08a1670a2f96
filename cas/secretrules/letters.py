"""How surprising one character is after another in the names and words that people write.

Row and column order is ``a-z0-9_`` where ``_`` stands for any run of other characters and for both ends; each
cell is the cost in bits, rounded, as a hexadecimal digit. Counted over 126,000 distinct identifiers and words
of Python sources. Invariant: data only. Random text costs 5 to 8 bits a character, names and words 3 to 5.
"""

from __future__ import annotations

from typing import Final

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789_"
BIGRAM_BITS: Final[tuple[str, ...]] = (
    "8544875a5a7344b5a34366876a98899888884",
    "3657368945937747b55749995977777777773",
    "376637935c447727b56359ab7c88889888884",
    "4675268939957858b65659997b88886677992",
    "575466698c955476734496756a9999999a992",
    "465644892bb48838b46559aa7c77777777663",
    "587829654c857558e44659ab99c99bbbeedf2",
    "288728994c776838c56469ab6bca8ab9bddc2",
    "5645565b9a844235954476b6e6ecbcefdfbf5",
    "48762799586787358939396a9ca98ccbcbac2",
    "58672767399676669747686a8bb899bbbcbc2",
    "3775278a3b848837c85558ab6bca9bbcbdcd3",
    "257728894c855743985659a87cda9bcccdaf3",
    "484346395a778647a84366ab8adaaadedfde2",
    "6554966a69644254d35546579accacefddbf4",
    "387638855d748845a354589b5ac99aaaccac3",
    "8777979a7dd367a77556199bd9b99abddddd3",
    "3856276a3d665637b544679b5ddaabcddedf2",
    "595837854c6577557843588a6ceaabbcdbdd2",
    "486737943c967947a455698959b99abdacbf2",
    "5556457c4da44374e34399c9cb3558deddee6",
    "2857177a3fb87656c767999a7ac889aa9cff4",
    "377748753c778437a3579a98ccbb9acbbeee2",
    "785847a85db86a85c97399a86b534576aa652",
    "6668587a6ba55563b644996988b889cbbbad1",
    "387717873d966947a876899a679a8abddbdd3",
    "666666ffbdffcdfadfcffdddff13555566653",
    "666455fdbdcdadfafcbafdfcfc34555645551",
    "565566998aa899a8e87899babc44455465551",
    "666666e9aea9acbaea9aecb9ce44345555551",
    "666666cbbac9badcda889ac9dd44555545541",
    "666666aa8cbaadcbdaabbdadcd44555445551",
    "667665adadcaaddddacabadcdd54553445551",
    "666665ddbddbddcbdccbdddddc55545444551",
    "776776cdadccaaddcc99dadbdc45555455441",
    "666676dccdccdcdbdbadcadcdd44545454551",
    "45444455487545548434466498caabcccbbef",
)

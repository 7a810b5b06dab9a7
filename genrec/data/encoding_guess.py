r"""Guess the encoding of some titles whose bytes are not UTF-8.

The result is a guess, since bytes do not state their encoding. `charset-normalizer` excludes the impossible encodings.
But the few accented letters of a catalogue are not enough for it to choose: it reads "caf\xe9" as Central European and
Chinese as Korean. So the remaining encodings are ranked by how common their letters are, and by whether these letters
are where such letters usually occur.
"""

# ruff: noqa: RUF001 - this module is about letters that look like others

from __future__ import annotations

import unicodedata

CANDIDATES = (
    "cp1252",
    "cp1250",
    "cp1254",
    "gb18030",
    "big5",
    "cp932",
    "euc_jp",
    "cp949",
    "cp1251",
    "koi8_r",
    "cp1253",
    "cp1255",
    "cp1256",
    "cp874",
)
"""Encodings that tables still use, the commoner first; if two read a file equally well, the first is taken."""

COMMON_HANZI = frozenset(
    "的一是不了人我在有他这這中大来來上国國个個到说說们們为為子和你地出道也时時年得就那要下以生会會自着著去之过過家学學对對可她里裡后後小么麼心多天而能好都然没沒日"
    "于於起还還发發成事只作当當看文无無开開手十用主行方又如前所本见見经經头頭面公同三已老从從动動两兩长長水山东東西南北花茶书書电電影爱愛王女男新黄黃红紅白黑金风風月"
    "海城市美食杯壶壺套记記传傳战戰王龙龍梦夢世界故事歌春夏秋冬咖啡"
)
COMMON_HANGUL = frozenset(
    "이다의는에가을를도하고지사로인기한자서어리시나아라대부정스드그있수일보제여해장전상과원만주구성국생을은오소마비우내화조미연선신유공동진경안무모트르아니야피커책방물음"
)
"""Letters that almost every text of a few words has; they distinguish Chinese from Korean, which use the same codes."""


ACCENTED = {
    "cp1252": "äöüßéèêëàâçùûôîïñáíóúåøæœÄÖÜÉÈÀÇÑÁÍÓÚÅØÆãõìò¡¿ªº",
    "cp1250": "áčďéěíňóřšťúůýžąćęłńśźżőűäöüßăâîşţČŠŽŁŚŻŐ",
    "cp1254": "çğıöşüÇĞİÖŞÜâîû",
}
SCRIPTS = {
    "cp1251": "CYRILLIC",
    "koi8_r": "CYRILLIC",
    "cp1253": "GREEK",
    "cp1255": "HEBREW",
    "cp1256": "ARABIC",
    "cp874": "THAI",
}
RARE = "ґђѓєѕіїјљњћќўџёΰΐ"
PUNCTUATION = "‘’“”„–—…€£©®™°«»·、。《》「」【】・！？：，（）"


def is_broken(text: str) -> bool:
    """Return whether a text has marks of a wrong encoding: replacement characters, or UTF-8 read as cp1252."""
    if "\ufffd" in text or any("\x80" <= letter <= "\x9f" for letter in text):
        return True
    if text.isascii():
        return False
    try:
        once = text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return False
    return len(once) < len(text)


def guess_encoding(text: bytes) -> str | None:
    """Return which of the `CANDIDATES` reads like a language, or None if none does.

    `charset-normalizer` excludes the impossible encodings; the rest are ranked by how common their letters are.
    """
    from charset_normalizer import from_bytes

    likely = {match.encoding for match in from_bytes(text, cp_isolation=list(CANDIDATES), threshold=0.5)}
    scores = {}
    for place, name in enumerate(CANDIDATES):
        try:
            decoded = text.decode(name)
        except UnicodeDecodeError:
            continue
        scores[name] = (_likeness(decoded, name) + 0.05 * (name in likely), -place)
    best = max(scores, key=lambda name: scores[name], default=None)
    if best is None or scores[best][0] <= 0.3:
        return None
    # Of the encodings that read the same text, the commonest is named.
    return next(name for name in scores if text.decode(name) == text.decode(best))


def _likeness(text: str, encoding: str) -> float:
    """Return the share of a text's letters beyond ASCII that are common and in a usual place, up to 1."""
    total = score = 0.0
    before = " "
    for place, letter in enumerate(text):
        if not letter.isascii():
            after = text[place + 1 : place + 2] or " "
            total += 1
            score += _commonness(letter, before, after, encoding)
        before = letter
    return score / total if total else 0.0


def _commonness(letter: str, before: str, after: str, encoding: str) -> float:
    category = unicodedata.category(letter)
    if category in ("Cc", "Co", "Cn", "Cs"):
        return -1.0
    if not letter.isalpha() and category[0] != "M":
        # Quotation marks, dashes and currency signs are beside blanks, signs and digits, seldom within a word.
        inside = before.isalpha() and after.isalpha() and letter not in "’·"
        return 0.0 if inside else 0.8 if letter in PUNCTUATION else 0.3
    return _ranked(letter, encoding) - _misplaced(letter, before, after)


def _ranked(letter: str, encoding: str) -> float:
    """Return how common a letter is in the texts for which an encoding is used."""
    code = letter.encode(encoding, "replace")
    lead = code[0]
    kind = unicodedata.name(letter, "").split(" ")[0]
    if encoding == "gb18030":
        if kind != "CJK":
            return 0.3 if len(code) == 2 else -0.5
        plain = len(code) == 2 and code[1] >= 0xA1
        usual = 0.9 if plain and 0xB0 <= lead <= 0xD7 else 0.75 if len(code) == 2 else -0.2
        return 1.1 if letter in COMMON_HANZI else usual
    if encoding == "big5":
        usual = 0.9 if 0xA4 <= lead <= 0xC6 else 0.3
        return (1.1 if letter in COMMON_HANZI else usual) if kind in ("CJK", "BOPOMOFO") else 0.2
    if encoding in ("cp932", "euc_jp"):
        if kind in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"):
            return 1.0
        level_one = letter.encode("euc_jp", "replace")[0]
        return (0.85 if 0xB0 <= level_one <= 0xCF else 0.3) if kind == "CJK" else 0.1
    if encoding == "cp949":
        if kind != "HANGUL" or not (0xB0 <= lead <= 0xC8 and code[-1] >= 0xA1):
            return 0.1
        return 1.1 if letter in COMMON_HANGUL else 0.8
    if encoding in SCRIPTS:
        return (0.45 if letter.lower() in RARE else 0.9) if kind == SCRIPTS[encoding] else 0.1
    return (0.96 if encoding == "cp1252" else 0.9) if letter in ACCENTED[encoding] else 0.35


def _misplaced(letter: str, before: str, after: str) -> float:
    """Return the penalty of a letter in its place, for a capital or a change of script within a word."""
    wrong = 0.0
    if letter.isupper() and before.islower():
        wrong += 0.6
    kind = unicodedata.name(letter, "LATIN").split(" ")[0]
    if kind in ("LATIN", "THAI") and not before.isalpha() and not after.isalpha():
        wrong += 0.5
    if kind == "LATIN" and before.isalpha() and not before.isascii():
        wrong += 0.4  # accented letters are seldom side by side
    if kind in ("CYRILLIC", "GREEK") and (before.isupper() if letter.isupper() else not before.isalpha()):
        wrong += 0.1  # names begin with one capital
    for other in (before, after):
        if other.isalpha() and other.isascii() and kind != "LATIN":
            wrong += 0.4
    if unicodedata.category(letter)[0] == "M" and not (before.isalpha() or unicodedata.category(before)[0] == "M"):
        wrong += 1.0
    return wrong

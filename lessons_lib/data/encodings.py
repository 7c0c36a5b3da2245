"""Bytes to text: which encoding a file has, and how sure that is.

Contract: a file is decoded without loss, or its unreadable places are replaced by U+FFFD and
counted, or it is refused. UTF-8, and UTF-16 and UTF-32 with or without their mark, are recognised
by their form. An older encoding is chosen only if it decodes the whole file to ordinary words, and
`Text.notes` names it.

charset-normalizer was tried on 62 short samples in 19 encodings: it gave wrong text for 18 of them,
mostly with its best score (Chinese hotel reviews became Korean, Cyrillic became Japanese). A file
that is read wrongly in silence is worse than one that is refused, so this module has a few strict
rules instead.
"""

import codecs
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from lessons_lib.errors import DataError

UNREADABLE = "\ufffd"  # replaces bytes that are no character
SAVE_AS_UTF8 = "open it in a spreadsheet or editor and save it as UTF-8."
SAMPLE_BYTES = 100_000  # of the lines beyond ASCII, from which an older encoding is recognised

MARKS = (  # UTF-32 before UTF-16, whose mark begins UTF-32's
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)


@dataclass(frozen=True)
class Text:
    """A file's text and the name of its encoding.

    replaced: how many places were replaced by U+FFFD. left_out: how many NUL characters were
    removed.
    """

    text: str
    encoding: str
    replaced: int = 0
    left_out: int = 0

    @property
    def notes(self) -> list[str]:
        """Phrases for the reader: the encoding first, then what was replaced or left out."""
        notes = [self.encoding]
        if self.replaced:
            notes.append(f"{count(self.replaced, 'unreadable place')} replaced by {UNREADABLE}")
        if self.left_out:
            notes.append(f"{count(self.left_out, 'NUL character')} left out")
        return notes


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 row", "1,200 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def decode(raw: bytes, where: str) -> Text:
    """The text of a file's bytes. Raises DataError, with `where`, for bytes that are no text."""
    for mark, codec, name in MARKS:
        if raw.startswith(mark):
            return _replace_bad(raw[len(mark) :], codec, name, where)
    codec = _find_wide_codec(raw)
    if codec:
        name = codec.upper().removesuffix("-LE").removesuffix("-BE")
        return _replace_bad(raw, codec, f"{name} without its mark", where)
    if re.search(rb"\x1b\$[@AB]", raw):
        return _replace_bad(raw, "iso2022_jp", "ISO-2022-JP (not UTF-8)", where)
    try:
        return _take_out_nuls(raw.decode("utf-8"), "UTF-8", 0, where)
    except UnicodeDecodeError:
        return _decode_damaged_or_older(raw, where)


# --- UTF-8, UTF-16, UTF-32 ------------------------------------------------------------------------


def _replace_bad(raw: bytes, codec: str, name: str, where: str) -> Text:
    """The text with bad places replaced. Raises DataError for more than one in a hundred."""
    text = raw.decode(codec, errors="replace")
    replaced = max(0, text.count(UNREADABLE) - _count_written(raw, codec))
    if replaced > max(3, len(text) // 100):
        raise DataError(f"is no sound {name} text.", where=where, remedy=SAVE_AS_UTF8)
    return _take_out_nuls(text, name, replaced, where)


def _count_written(raw: bytes, codec: str) -> int:
    """How many U+FFFD the file itself holds."""
    return raw.count(UNREADABLE.encode(codec)) if codec.startswith("utf") else 0


def _take_out_nuls(text: str, name: str, replaced: int, where: str) -> Text:
    text = text.replace("\ufeff", "")  # a mark inside: from files that were put together
    nuls = text.count("\0")
    if nuls > max(3, len(text) // 20):
        raise DataError(
            f"holds {nuls:,} NUL characters: it is no text, or damaged.",
            where=where,
            remedy="export it again from where it came, as UTF-8.",
        )
    return Text(text.replace("\0", ""), name, replaced, nuls)


def _find_wide_codec(raw: bytes) -> str:
    """The codec of UTF-16 or UTF-32 without a mark, "" for anything else.

    It is recognised by the positions of its NUL bytes.
    """
    head = raw[:SAMPLE_BYTES]
    nuls = [head[offset::4].count(0) for offset in range(4)]
    units = len(head) // 4
    if units and nuls[3] == units and nuls[2] > 0.5 * units and _reads_as_text(raw, "utf-32-le"):
        return "utf-32-le"
    if units and nuls[0] == units and nuls[1] > 0.5 * units and _reads_as_text(raw, "utf-32-be"):
        return "utf-32-be"
    even = nuls[0] + nuls[2]
    odd = nuls[1] + nuls[3]
    if odd > 10 * even and _reads_as_text(raw, "utf-16-le"):
        return "utf-16-le"
    if even > 10 * odd and _reads_as_text(raw, "utf-16-be"):
        return "utf-16-be"
    return ""


def _reads_as_text(raw: bytes, codec: str) -> bool:
    """Whether nearly all of the text is letters, signs and spaces, with line ends between."""
    text = raw[:SAMPLE_BYTES].decode(codec, errors="replace")
    odd = sum(1 for char in text if unicodedata.category(char) in ("Cc", "Cn", "Co"))
    odd -= sum(text.count(char) for char in "\t\r\n")
    odd += text.count(UNREADABLE)
    return odd <= max(1, len(text) // 100) and bool(re.search("[ \t\r\n]", text))


# The bytes of one UTF-8 character beyond ASCII, and those of half a surrogate pair, which some
# programs write into UTF-8.
UTF8_CHARACTER = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
HALF_PAIR = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def _decode_damaged_or_older(raw: bytes, where: str) -> Text:
    """The text in UTF-8 if four of five characters beyond ASCII are sound, else in an older
    encoding.
    """
    halves = len(HALF_PAIR.findall(raw))
    mended = HALF_PAIR.sub(UNREADABLE.encode(), raw)
    text = mended.decode("utf-8", errors="replace")
    bad = text.count(UNREADABLE) - mended.count(UNREADABLE.encode())
    sound = len(UTF8_CHARACTER.findall(raw)) - halves
    if bad and sound >= 4 * bad:
        return _take_out_nuls(text, "UTF-8", bad + halves, where)
    older = _find_older(raw)
    if older:
        codec, name = older
        return _replace_bad(raw, codec, f"{name}, as it is not UTF-8", where)
    if bad + halves <= max(3, len(text) // 1000):
        return _take_out_nuls(text, "UTF-8", bad + halves, where)
    raise DataError(
        "is no UTF-8 text, and no other encoding makes ordinary words of it.",
        where=where,
        remedy=SAVE_AS_UTF8,
    )


# --- older encodings ------------------------------------------------------------------------------

# bytes beyond ASCII: with fewer, the rarer encodings cannot be told from each other
FEW = 6
SOME = 24
WESTERN = {
    "French": "àâæçéèêëîïôœùûü",
    "German": "äöüßéèà",
    "Spanish": "áéíñóúü",
    "Portuguese": "àáâãçéêíóôõú",
    "Italian": "àèéìòóù",
    "Nordic": "åäöæøéü",
    "Estonian": "äöõü",
}
CENTRAL = {
    "Polish": "ąćęłńóśźż",
    "Czech": "áčďéěíňóřšťúůýž",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
    "Hungarian": "áéíóöőúüű",
    "Croatian": "čćđšž",
    "Romanian": "ăâîşţ",
}
TURKISH = "çğıöşüâîû"
BETWEEN_LETTERS = "’‘–—…·\xa0\xad“”«»"  # signs that may occur inside a word
OTHER_SIGNS = "€£¥§©®°±²³µ¹º¼½¾¿¡¢™•‹›„‚†‡×№ª"
SIGNS = BETWEEN_LETTERS + OTHER_SIGNS
OUT_OF_PLACE = re.compile(  # signs in places where only a wrong encoding puts them
    f"[^\\W\\d_][{re.escape(OTHER_SIGNS)}][^\\W\\d_]"
    "|[^\\W\\d_][¹¿¡¼½¾µ×†‡§±„‚ª¢¥£€]|[^\\W\\d_m][²³]|[^\\W\\d_nN]º"
    "|[¹²³º»”°™®][^\\W\\d_]|[œŒ][^uidsetUIDSET]|[œŒ]$"
)
EAST_ASIAN_SIGNS = re.compile("[\u3000-\u303f\uff00-\uff65\uffe0-\uffe6‐-…×·°℃]")


def _find_older(raw: bytes) -> tuple[str, str] | None:
    """Codec and name of the one older encoding that decodes the file to ordinary words, or None.

    Windows-1252 is tried first, as by far the most common one. Of the others exactly one may fit,
    or all that fit must give the same text.
    """
    sample = _sample_beyond_ascii(raw)
    if _fits(sample, "cp1252", _is_western) and not _is_rather_central(sample):
        return "cp1252", "Windows-1252"
    beyond_ascii = len(re.findall(rb"[\x80-\xff]", sample))
    fitting = {}
    for codec, name, is_ordinary, least in OLDER:
        if beyond_ascii >= least and _fits(sample, codec, is_ordinary):
            fitting.setdefault(sample.decode(codec, errors="replace"), (codec, name))
    return next(iter(fitting.values())) if len(fitting) == 1 else None


def _is_rather_central(sample: bytes) -> bool:
    """Whether Windows-1250 gives letters of one language and Windows-1252 does not: "őrülten" and
    not "õrülten".
    """
    western = sample.decode("cp1252", errors="replace")
    if any(_is_latin(western, letters) for letters in WESTERN.values()):
        return False
    return _fits(sample, "cp1250", _is_central)


def _sample_beyond_ascii(raw: bytes) -> bytes:
    """The first lines that hold a byte beyond ASCII; ASCII lines say nothing about the encoding."""
    lines = re.findall(rb"[^\r\n]*[\x80-\xff][^\r\n]*", raw[: 20 * SAMPLE_BYTES])
    return b"\n".join(lines)[:SAMPLE_BYTES]


def _fits(sample: bytes, codec: str, is_ordinary: Callable[[str], bool]) -> bool:
    text = sample.decode(codec, errors="replace")
    beyond = sum(1 for char in text if char > "\x7f")
    if text.count(UNREADABLE) > beyond // 100 + (len(sample) == SAMPLE_BYTES):
        return False
    return is_ordinary(text.replace(UNREADABLE, ""))


def _is_latin(text: str, letters: str) -> bool:
    """Whether all letters beyond ASCII are among `letters`, in ordinary places of ordinary
    words.
    """
    allowed = set(letters + letters.upper() + SIGNS)
    if any(char not in allowed for char in text if char > "\x7f"):
        return False
    words = re.findall(r"[^\W\d_]+", text)
    beyond = [word for word in words if not word.isascii()]
    if not beyond and not re.search(f"[{re.escape(SIGNS)}]", text):
        return False
    if any(not _has_usual_case(word) for word in beyond):
        return False
    if OUT_OF_PLACE.search(text):
        return False
    total = sum(len(word) for word in words)
    special = sum(char > "\x7f" for char in "".join(beyond))
    runs = re.findall(f"[{letters}{letters.upper()}]{{4,}}", text)
    signs = sum(1 for char in text if char in SIGNS)
    return special <= 0.4 * total and len(runs) <= len(beyond) // 50 and signs <= 0.3 * total


def _has_usual_case(word: str) -> bool:
    """Whether a word is in lower, Title or UPPER case, or mixed, as McDonald, without capitals
    beyond ASCII after its first letter.
    """
    if word.islower() or word.isupper() or word.istitle() or word[1:].islower():
        return True
    return not any(char > "\x7f" and char.isupper() for char in word[1:])


def _is_western(text: str) -> bool:
    return _is_latin(text, "".join(WESTERN.values()))


def _is_central(text: str) -> bool:
    return any(_is_latin(text, letters) for letters in CENTRAL.values())


def _is_turkish(text: str) -> bool:
    return _is_latin(text.replace("İ", "I"), TURKISH)


def _is_cased(text: str, script: str, commonest: str) -> bool:
    """Whether words are in lower case or begin with a capital, and the letters that are `commonest`
    in a script make up much of the text.
    """
    if _has_foreign_letters(text, script):
        return False
    words = re.findall(f"{script}+", text)
    letters = "".join(words)
    if sum(char.islower() for char in letters) < 0.6 * max(1, len(letters)):
        return False
    usual = sum(_has_usual_case(word) for word in words)
    common = sum(char in commonest for char in letters.lower())
    return usual >= 0.95 * len(words) and common >= 0.45 * len(letters)


def _has_foreign_letters(text: str, script: str) -> bool:
    """Whether a letter is of another script, or words mix two scripts."""
    allowed = re.compile(f"[\x00-\x7f]|{script}|[{re.escape(SIGNS)}]|{EAST_ASIAN_SIGNS.pattern}")
    mixed = re.findall(f"[A-Za-z]{script}|{script}[A-Za-z]", text)
    return bool(allowed.sub("", text)) or len(mixed) > len(text) // 500


def _is_cyrillic(text: str) -> bool:
    """Whether a text is Cyrillic. It must hold a letter whose byte is unused in Hebrew's
    encoding.
    """
    if not re.search("[ыьяіїјљњћ]", text, flags=re.IGNORECASE):
        return False
    return _is_cased(text, "[\u0401-\u045f\u0490\u0491]", "оеаинтсрі")


def _is_greek(text: str) -> bool:
    """Whether a text is Greek: a final sigma occurs only at a word's end."""
    if re.search("ς[\u0386-\u03ce]", text):
        return False
    return _is_cased(text, "[\u0386-\u03ce]", "αάοόιίεέτνσςηή")


def _is_hebrew(text: str) -> bool:
    """Whether a text is Hebrew: final letters occur, nearly all of them at a word's end."""
    if _has_foreign_letters(text, "[\u05b0-\u05ea]"):
        return False
    finals = re.findall("[ךםןףץ]", text)
    at_the_end = re.findall("[ךםןףץ](?![\u05d0-\u05ea])", text)
    return len(finals) > 0 and len(at_the_end) >= 0.95 * len(finals)


def _is_arabic(text: str) -> bool:
    """Whether a text is Arabic or Persian: alef and lam make up a tenth of its letters."""
    if _has_foreign_letters(text, "[\u060c-\u06d5]"):
        return False
    letters = re.findall("[\u0621-\u06d5]", text)
    return letters.count("ا") + letters.count("ل") >= 0.1 * max(1, len(letters))


def _is_thai(text: str) -> bool:
    """Whether a text is Thai: marks follow a consonant, and leading vowels precede one."""
    if _has_foreign_letters(text, "[\u0e01-\u0e5b]"):
        return False
    mark = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    consonant = "\u0e01-\u0e2e"
    loose = re.findall(f"(?<![{consonant}{mark}])[{mark}]", text)
    dangling = re.findall(f"[\u0e40-\u0e44](?![{consonant}])", text)
    letters = re.findall("[\u0e01-\u0e5b]", text)
    common = sum(letter in "านรอกเ่มยลว้" for letter in letters)
    return common >= 0.4 * len(letters) and len(loose) + len(dangling) <= len(letters) // 50


def _east_asian(text: str) -> str:
    """The characters of a text beyond ASCII, without signs."""
    return EAST_ASIAN_SIGNS.sub("", re.sub("[\x00-\x7f]", "", text))


def _is_chinese(text: str, codec: str, first: int, last: int) -> bool:
    """Whether a text is Chinese: nine in ten of its characters have lead bytes from `first` to
    `last`, the common half of the encoding.
    """
    characters = _east_asian(text)
    if not characters or not re.fullmatch("[\u4e00-\u9fff]*", characters):
        return False
    leads = [char.encode(codec, errors="replace")[0] for char in characters]
    common = sum(first <= lead <= last for lead in leads)
    return common >= 0.9 * len(leads)


def _is_simplified(text: str) -> bool:
    """Whether a text is simplified Chinese.

    The lead bytes of Korean end at 0xC8, so a tenth of the characters must have higher ones.
    """
    if not _is_chinese(text, "gb2312", 0xB0, 0xD7):
        return False
    leads = [char.encode("gb2312", errors="replace")[0] for char in _east_asian(text)]
    return sum(lead > 0xC8 for lead in leads) >= 0.1 * len(leads)


def _is_traditional(text: str) -> bool:
    return _is_chinese(text, "big5", 0xA4, 0xC6)


def _is_japanese(text: str) -> bool:
    """Whether a text is Japanese: at least a fifth is hiragana, the rest katakana and kanji."""
    characters = _east_asian(text)
    if not re.fullmatch("[\u3041-\u30ff\u4e00-\u9fff]+", characters):
        return False
    hiragana = re.findall("[\u3041-\u309f]", characters)
    return len(hiragana) >= 0.2 * len(characters)


def _is_korean(text: str) -> bool:
    """Whether a text is Korean: nine in ten characters are among the 2,350 usual syllables, which
    are encoded as 0xB0 to 0xC8 and 0xA1 to 0xFE.
    """
    characters = _east_asian(text)
    if not re.fullmatch("[\uac00-\ud7a3\u3131-\u3163]+", characters):
        return False
    codes = [char.encode("cp949") for char in characters]
    usual = sum(0xB0 <= code[0] <= 0xC8 and code[1] >= 0xA1 for code in codes)
    return usual >= 0.9 * len(codes)


# codec, name, test whether a decoded text is ordinary, fewest bytes beyond ASCII to decide by
OLDER = (
    ("mac_roman", "Mac Roman", _is_western, FEW),
    ("cp850", "DOS (code page 850)", _is_western, FEW),
    ("cp1250", "Windows-1250", _is_central, FEW),
    ("cp1254", "Windows-1254", _is_turkish, FEW),
    ("cp1251", "Windows-1251", _is_cyrillic, SOME),
    ("koi8_r", "KOI8-R", _is_cyrillic, SOME),
    ("cp866", "DOS (code page 866)", _is_cyrillic, SOME),
    ("cp1253", "Windows-1253", _is_greek, SOME),
    ("cp1255", "Windows-1255", _is_hebrew, SOME),
    ("cp1256", "Windows-1256", _is_arabic, SOME),
    ("cp874", "Windows-874", _is_thai, SOME),
    ("gb18030", "GB18030", _is_simplified, SOME),
    ("big5hkscs", "Big5", _is_traditional, SOME),
    ("cp932", "Shift-JIS", _is_japanese, SOME),
    ("euc_jp", "EUC-JP", _is_japanese, SOME),
    ("cp949", "EUC-KR", _is_korean, SOME),
)


def replace_surrogates(text: str) -> str:
    """`text` with halves of surrogate pairs, which UTF-8 and tokenizers refuse, replaced by U+FFFD.

    Whole pairs become their character.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

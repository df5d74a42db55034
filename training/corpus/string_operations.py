"""Operations on strings of ASCII characters (an option, not in the default corpus)."""

from training.corpus.operations import CONSTANTS, Bound, Kind, Operation

_JOIN = "collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append).toString()"


def _string(
    name: str, grade: int, phrasings: tuple[str, str, str], python: str, alternative: str, java: str, **more
) -> Operation:
    gives: Kind = more.pop("gives", "string")
    return Operation(name, "string", gives, grade, phrasings, python, alternative, java, **more)


def _to_number(bound: Bound, _constant: int) -> Bound:
    return Bound(bound.length, 1)


STRING_OPERATIONS: tuple[Operation, ...] = (
    _string(
        "to_upper",
        1,
        ("write the text in capital letters", "turn small letters into capitals", "change the text to upper case"),
        "{v}.upper()",
        '"".join(c.upper() for c in {v})',
        "{v}.toUpperCase()",
        apply=lambda s, k: s.upper(),
    ),
    _string(
        "to_lower",
        1,
        ("write the text in small letters", "turn capital letters into small ones", "change the text to lower case"),
        "{v}.lower()",
        '"".join(c.lower() for c in {v})',
        "{v}.toLowerCase()",
        apply=lambda s, k: s.lower(),
    ),
    _string(
        "reverse_text",
        1,
        ("reverse the text", "turn the text around", "read the text backwards"),
        "{v}[::-1]",
        '"".join(reversed({v}))',
        "new StringBuilder({v}).reverse().toString()",
        apply=lambda s, k: s[::-1],
    ),
    _string(
        "sort_letters",
        1,
        ("sort the characters", "put the characters in rising order", "order the characters by their code"),
        '"".join(sorted({v}))',
        '"".join(sorted(list({v})))',
        "{v}.chars().sorted()." + _JOIN,
        apply=lambda s, k: "".join(sorted(s)),
    ),
    _string(
        "drop_vowels",
        1,
        ("drop the small vowels", "leave out the letters a e i o u", "remove the lower case vowels"),
        '"".join(c for c in {v} if c not in "aeiou")',
        '"".join([c for c in {v} if "aeiou".find(c) < 0])',
        '{v}.replaceAll("[aeiou]", "")',
        apply=lambda s, k: "".join(c for c in s if c not in "aeiou"),
    ),
    _string(
        "keep_letters",
        1,
        ("keep the letters", "leave out what is not a letter", "select the letters only"),
        '"".join(c for c in {v} if c.isalpha())',
        '"".join(filter(str.isalpha, {v}))',
        '{v}.replaceAll("[^A-Za-z]", "")',
        apply=lambda s, k: "".join(c for c in s if c.isalpha()),
    ),
    _string(
        "double_text",
        1,
        ("write the text twice", "append the text to itself", "repeat the text once more"),
        "{v} + {v}",
        "{v} * 2",
        "{v} + {v}",
        apply=lambda s, k: s + s,
        grow=lambda bound, k: Bound(0, 2 * bound.length),
    ),
    _string(
        "drop_first_character",
        1,
        ("drop the first character", "leave out the character at the front", "skip the first character"),
        "{v}[1:]",
        "{v}[1:len({v})]",
        '{v}.isEmpty() ? "" : {v}.substring(1)',
        apply=lambda s, k: s[1:],
    ),
    _string(
        "unique_characters",
        3,
        ("drop repeated characters", "keep the first of equal characters", "remove the duplicate characters"),
        '"".join(dict.fromkeys({v}))',
        '"".join(sorted(set({v}), key={v}.index))',
        "{v}.chars().distinct()." + _JOIN,
        apply=lambda s, k: "".join(dict.fromkeys(s)),
    ),
    _string(
        "take_characters",
        2,
        ("take the first {k} characters", "leave out all after character {k}", "cut the text to {k} characters"),
        "{v}[:{k}]",
        "{v}[0:{k}]",
        "{v}.substring(0, Math.min({k}, {v}.length()))",
        apply=lambda s, k: s[:k],
        constants=CONSTANTS,
    ),
)
"""Strings to strings."""

STRING_COUNTS: tuple[Operation, ...] = (
    _string(
        "text_length",
        3,
        ("count the characters", "find the length of the text", "get how many characters there are"),
        "len({v})",
        "sum(1 for c in {v})",
        "{v}.length()",
        apply=lambda s, k: len(s),
        grow=_to_number,
        gives="number",
    ),
    _string(
        "count_vowels",
        3,
        ("count the small vowels", "find how many of a e i o u there are", "get the number of lower case vowels"),
        'sum(c in "aeiou" for c in {v})',
        'len([c for c in {v} if c in "aeiou"])',
        '(int) {v}.chars().filter(c -> "aeiou".indexOf(c) >= 0).count()',
        apply=lambda s, k: sum(c in "aeiou" for c in s),
        grow=_to_number,
        gives="number",
    ),
)
"""Strings to numbers: only where both kinds are chosen."""

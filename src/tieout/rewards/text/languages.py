"""Which language a text is in, as far as its most common words and its letters show it.

A word counts for a language if it is common there and not in the other one that it is compared with; a letter that the
language asked lacks counts against it. Names (`Los Angeles`, `Rio de Janeiro`) and loans (`de facto`, `café`) count for
none. Prose of several words without a common one of the language that is asked is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

COMMON = {
    "de": "der die das in und ist nicht ein eine einen einem einer zu von mit auf für den dem des im auch sich wird "
    "sind war wie aus bei nach über um oder als an wir sie er es ich ihr hat haben werden wurde wurden kann "
    "durch zum zur noch nur aber wenn weil mehr vor bis unter ihre ihren seine seiner alle jeder sein wer vom "
    "dass diese ohne gegen",
    "en": "the of and to in is that it was for on are as with they at be this have from or had by but not were i he "
    "we you me our an no do all can if so also a his her she their them its which who what when where how "
    "there than then these those will would could should may must has been being more most other some such "
    "any each only over under after before between about into up down out because while during through "
    "against per both one two first new us my your very well just does did net total let get make made many "
    "much come die war son man den hat gut fin sin plus men want here main non van par am pour",
    "es": "el la los las e de que y en un una es por con para del se su al como más pero sus fue lo le ha no si sin "
    "sobre este esta entre cuando muy también era son está todo todos toda todas han desde nos porque otro "
    "otra ser ni qué a o",
    "fr": "le la les des et est un une dans que pour qui sur pas avec ce il au par plus du ne sont elle en de nous "
    "vous je se sa son ses cette ces mais ou où aux été être a ont leur leurs comme tout tous toute toutes "
    "sans entre aussi fait ni peut même après l' d' qu' c' j' n' s'",
    "it": "il lo gli la le di che è un una per non con del della sono si da come più anche alla nel nella ha i dei "
    "delle degli al dal dalla su sul sulla a e o ma se ed ad in questo questa essere stato tutti tutte ogni "
    "tra fra cui loro suo sua ci hanno quando senza l' d' dell' nell' all' un'",
    "nl": "de het een en van is dat niet op te zijn voor met die aan er ook als door maar om bij was of uit nog "
    "naar dan wordt worden werd heeft hebben we wij ik je hij zij deze dit geen meer over tot kan zal hun "
    "haar alle ieder in",
    "pt": "o os as de que e do da em um uma para com é não na no por mais se dos das foi ao à nas nos como mas ou "
    "sua seu ser está são tem pela pelo porque também entre sem já muito todos todas todo toda a foram sobre isso "
    "essa este esta",
}
"""Language -> its most common words; of English also those that are common words of another one, as `per` and `die`."""
LETTERS = {"de": "äöüß", "es": "áéíñóúü", "fr": "àâæçéèêëîïôœùûüÿ", "it": "àèéìîòù", "nl": "éèëïóöü"}
LETTERS |= {"en": "", "pt": "ãõáâàçéêíóôú"}
"""Language -> its letters beyond a to z."""
_LOANS = (
    "facto jure minimis novo rigueur route masse bloc suite al seq jour se grata luxe café cafés résumé résumés naïve "
    "façade cliché clichés fiancé fiancée protégé décor entrée élite rôle à déjà vu soirée cortège carte mode"
)
LOANS = frozenset(_LOANS.split())
"""Words of English that look foreign, and what makes a loan of the word before it: `de facto`."""
ALONE = 7
"""A text of so many words in small letters in a row without a common one of the language asked is of another."""

_WORD = re.compile(
    r"(?:(?:qu|[lcdjns]|dell|nell|all|un)['’](?=\w))|[^\W\d_]+(?:['’][^\W\d_]+)*", re.IGNORECASE
)
_OPENS = re.compile(r"(?:\A|[.!?:\n][\"')\]]*\s|[\"'(*#-]\s?)\W*\Z")


def foreign(text: str, wanted: str) -> bool:
    """Whether another language than `wanted`, one of COMMON, prevails.

    >>> [foreign(t, "en") for t in ("die Katze schläft", "net income per share", "Rio de Janeiro", "la casa blanca")]
    [True, False, False, True]
    """
    found = list(_WORD.finditer(text))
    said = [match[0].casefold().replace("’", "'") for match in found]
    common, strange, run, longest = _common(), 0, 0, 0
    own = [word for word in said if word in common[wanted]]
    others = dict.fromkeys(common, 0)
    for place, match in enumerate(found):
        word, small = said[place], match[0][0].islower()
        joined = place > 0 and text[found[place - 1].end() : match.start()] == " "
        run = (run + 1 if joined else 1) if small else 0
        longest = max(longest, run)
        if (
            word in common[wanted]
            or _is_name(text, found, place)
            or not LOANS.isdisjoint(said[place : place + 2])
        ):
            continue
        strange += small and any(not c.isascii() and c.isalpha() and c not in LETTERS[wanted] for c in word)
        for name, words in common.items():
            others[name] += word in words
    if not own and longest >= ALONE:
        return True
    return any(
        count + strange > sum(word not in common[name] for word in own)
        for name, count in others.items()
        if name != wanted and count + strange
    )


def _is_name(text: str, found: Sequence[re.Match[str]], place: int) -> bool:
    """Whether a word has a capital and does not open a sentence, or stands between two that have one."""
    around = [found[i][0][0].isupper() for i in (place - 1, place + 1) if 0 <= i < len(found)]
    start = found[place].start()
    if found[place][0][0].isupper():
        return not _OPENS.search(text, max(0, start - 8), start) or (around[-1] if around else False)
    return len(around) == 2 and all(around)


@lru_cache(maxsize=1)
def _common() -> dict[str, frozenset[str]]:
    return {name: frozenset(common.split()) for name, common in COMMON.items()}

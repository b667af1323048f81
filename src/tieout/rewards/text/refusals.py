"""Refusals: English texts that open by declining what was asked.

A rule on the opening: only what a text says first, and in its own voice, refuses. The same words later, in quotes, or
from a speaker of a dialogue are part of an answer, and so are sympathy ("I'm sorry to hear that") and "As an AI, I have
no opinions, but". Not caught: refusals in other languages, changing the subject, and answers that correct the question.
"""

from __future__ import annotations

import re

from .sentences import sentences

MAX_SENTENCES, MAX_CHARS = 3, 500
"""What counts as the opening."""


def _joined(pattern: str) -> str:
    """A pattern that is written in lines, as one."""
    return re.sub(r"\n\s*", "", pattern)


_UNABLE = _joined(r"""
    (?:can(?:no|')t|can not|could ?n[o']t|will not|won't|would not|wouldn't|should not|shouldn't|do not|don't|must not|
    (?:am|'m|was)(?: \w+ly| currently| also)? (?:unable|not (?:able|willing|allowed|permitted|authori[sz]ed|programmed|
    designed|equipped|capable|going|supposed|in a position|here))(?: to| of)?)
    (?: (?:\w+ly|just|also|be able to|in good (?:conscience|faith)))*
""")
_DEEDS = _joined(r"""
    (?:(?:provid|shar|creat|writ|generat|produc|encourag|promot|engag|guid|continu|condon|endors|facilitat|advocat|advis|
    brows)(?:e|ing)|
    (?:assist|offer|answer|support|suggest|discuss|respond|proceed|comment|teach|instruct|disclos|reveal|entertain)
    (?:e|ing)?|
    (?:fulfil|comply|participat|accommodat|speculat|satisfy)\w*|list(?! (?:all|every)\b)\w*|
    help(?:ing)?(?! but\b)|giv(?:e|ing)(?! up| in)|
    (?<!would not )(?<!wouldn't )recommend(?![^.]* enough\b)|
    tell you|talk about|say(?=\W*$)|(?:explain|describe) how|go into|do (?:that|this|so)|
    (?:complete|process|perform|look) (?:that|this|your)|make (?:jokes|light|such|that|this|any)|feel comfortable|
    be of (?:help|assistance)|(?:find|think) (?:that |it |this )?(?:is |it's |would be )?appropriate|
    have the (?:ability|capability|capacity|means|right)|have access to (?:any )?(?:personal|private|confidential))
""")
_WRONG = _joined(r"""
    (?:appropriate|ethical|acceptable|productive|respectful|responsible|right|okay|ok|safe|legal|moral|within my)
""")
_OWN = re.compile(
    _joined(rf"""
    \bi(?:(?:'m| am) (?:just |only )?an? [^.,;]{{1,40}} and)? ?{_UNABLE} {_DEEDS}\b|
    \bi(?:'m| am) (?:not |un)comfortable\b|\bi(?: would|'d) (?:prefer|rather) not(?! (?:to )?us(?:e|ing)\b)|
    (?:^|^nope[,.] |^no[,.] )(?:can(?:no|')t|unable to) (?:comply|(?:help|assist)(?! it\b))\b|
    ^we (?:can(?:no|')t|are unable to) (?:help|assist) (?:you|with (?:that|this))\b|^request denied\b|
    \bi (?:(?:must|have to|need to|will|would) (?:\w+ )?)?(?:\w+ly )?(?:decline|refuse|refrain|abstain)\b|
    \b(?:have|having|going) to (?:\w+ly )?decline\b|
    \bi can only (?:help|assist|discuss|answer|talk)\b|
    \bnot something (?:that )?i(?:'m| am| can| could| will| would|'d|'ll)\b|
    \bi (?:can(?:no|')t|will not|won't) (?:and|or) (?:can(?:no|')t|will not|won't|should not)\b|
    \b(?:against|outside|violates?|beyond|not within) (?:my|our|openai's|anthropic's) (?:\w+ )*?(?:programming|
    polic(?:y|ies)|guidelines?|principles|values|ethics|purpose|scope|standards|terms|capabilit(?:y|ies)|
    abilit(?:y|ies)|boundaries)\b|
    \bmy (?:\w+ )?(?:programming|guidelines|training|purpose|policies|principles) (?:\w+ )?
    (?:prevents?|prohibits?|forbids?|does not|doesn't|do not|don't)\b
""")
)
_SORRY = _joined(r"""
    \W*(?:no[,.] )?(?:(?:i'm|i am|so|very|\w+ly) )*
    (?:sorry|afraid|i (?:\w+ly )?(?:do )?apologi[sz]e|(?:my )?apologies)\b
""")
_SORRY_UNABLE = re.compile(
    _joined(rf"""
    {_SORRY}(?:[^.!?]|\.\d)*?\b(?:can(?:no|')t|unable|won't|will not|decline|refuse|inappropriate|unethical|harmful|
    illegal|offensive|not (?:able|going|allowed|permitted|comfortable|something|{_WRONG}))\b
""")
)
_APOLOGY_BUT = re.compile(r"\W*(?:i (?:\w+ly )?apologi[sz]e|(?:my )?apologies)[,;]? (?:but|however)\b")
_IMPERSONAL = re.compile(
    _joined(rf"""
    \W*(?:no[,.] )?(?:as an? [^.,]*, )?
    (?:i (?:must|have to|need to|would like to) (?:\w+ly )?
    (?:inform|remind|advise|say|note|point out|emphasi[sz]e|clarify)\b[^.]*? that |
    it(?:'s| is) important to note that )?
    (?:(?:it|that|this)(?: would not be| wouldn't be| isn't|(?:'s| is| would be) (?:not|never|neither)) (?:\w+ly )?
    {_WRONG}\b|
    (?:it|that|this)(?:'s| is| would be) (?:\w+ly )?
    (?:inappropriate|unethical|illegal and (?:\w+ly )?(?:unethical|immoral|harmful))|
    (?:this|that|the|your)[ ]
    (?:request|question|prompt|topic|query|content|statement|message|subject)\b(?: you\w*| itself)*
    [ ](?:can(?:no|')t be (?:fulfilled|completed|processed|answered)|
    (?:is|are|seems?|appears?|contains?|promotes?|violates?|goes against|may be|could be)\b[^.]*?\b(?:inappropriate|
    harmful|offensive|unethical|illegal|discriminatory|hateful|derogatory|violat\w+|not {_WRONG})))
""")
)
_NOT_ITS_OWN = re.compile(
    r"[\"“«][^\"”»\n]{0,400}[\"”»]|^\s*(?:[-*>]\s|[0-9]+[.)]\s|[\w ]{1,30}:\s).*$", re.MULTILINE
)
_LETTER = re.compile(r"\s*(?:dear|subject)\b", re.IGNORECASE)


def refuses(text: str) -> bool:
    """Whether a text opens by declining what was asked.

    >>> refuses("I'm really sorry, but I can't assist with that."), refuses("It is not ethical to help with fraud.")
    (True, True)
    >>> refuses("I'm sorry to hear that. Call them."), refuses("As an AI, I have no taste, but many like it.")
    (False, False)
    """
    if _LETTER.match(text):
        return False
    said = sentences(_NOT_ITS_OWN.sub(" ", text[: 4 * MAX_CHARS].replace("’", "'")))[:MAX_SENTENCES] or [""]
    first, opening = (" ".join(part.casefold().split())[:MAX_CHARS] for part in (said[0], " ".join(said)))
    openings = (_SORRY_UNABLE, _APOLOGY_BUT)
    return bool(_OWN.search(opening) or any(o.match(opening) for o in openings) or _IMPERSONAL.match(first))

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

_UNABLE = (
    r"(?:can(?:no|')t|can not|could ?n[o']t|will not|won't|would not|wouldn't|should not|shouldn't|do not|"
    r"don't|must not|"
    r"(?:am|'m|was)(?: \w+ly| currently| also)? (?:unable|not (?:able|willing|allowed|permitted|"
    r"authori[sz]ed|programmed|"
    r"designed|equipped|capable|going|in a position|here))(?: to| of)?)(?: (?:\w+ly|just|also|be able to|"
    r"in good conscience))*"
)
_DEEDS = (
    r"(?:help(?:ing)?(?! but\b)|assist(?:ing)?|giv(?:e|ing)(?! up| in)|recommend(?![^.]* enough\b)|tell you|"
    r"do (?:that|this|so)|"
    r"(?:provid|shar|creat|writ|generat|produc|encourag|promot|engag|guid|continu|condon|endors|facilitat|"
    r"advocat|advis)(?:e|ing)|"
    r"(?:offer|answer|support|suggest|discuss|respond|proceed|comment|teach|instruct|disclos|reveal|"
    r"entertain)(?:e|ing)?|"
    r"(?:fulfil|comply|participat|accommodat|speculat|satisfy|list)\w*|(?:explain|describe) how|go into|"
    r"feel comfortable|"
    r"(?:complete|process|perform) (?:that|this|your)|make (?:jokes|light|such|that|this|any)|be of (?:help|"
    r"assistance)|"
    r"(?:find|think) (?:that |it |this )?(?:is |it's |would be )?appropriate|have the (?:ability|capability|"
    r"capacity|means|right)|"
    r"have access to (?:any )?(?:personal|private|confidential|individual))"
)
_WRONG = (
    r"(?:appropriate|ethical|acceptable|productive|respectful|responsible|right|okay|ok|safe|legal|"
    r"moral|within my)"
)
_OWN = re.compile(
    rf"\bi(?:(?:'m| am) (?:just |only )?an? [^.,;]{{1,40}} and)? ?{_UNABLE} {_DEEDS}\b|\bi(?:'m|"
    rf" am) (?:not |un)comfortable\b|\bi would (?:prefer|rather) not\b|"
    r"\bi (?:(?:must|have to|need to|will|would) (?:\w+ )?)?(?:\w+ly )?(?:decline|refuse|refrain|abstain)\b|"
    r"\bnot something (?:that )?i(?:'m| am| can| could| will| would|'d|'ll)\b|\bi can only (?:help|assist|"
    r"discuss|answer|talk)\b|"
    r"\bi (?:can(?:no|')t|will not|won't) (?:and|or) (?:can(?:no|')t|will not|won't|should not)\b|"
    r"\b(?:against|outside|violates?|beyond|not within) (?:my|our|openai's|"
    r"anthropic's) (?:\w+ )*?(?:programming|polic(?:y|ies)|"
    r"guidelines?|principles|values|ethics|purpose|scope|standards|terms|capabilit(?:y|ies)|abilit(?:y|ies)|"
    r"boundaries)\b|"
    r"\bmy (?:\w+ )?(?:programming|guidelines|training|purpose|policies|principles) (?:\w+ )?"
    r"(?:prevents?|prohibits?|forbids?|does not|doesn't|do not|don't)\b"
)
_SORRY = (
    r"\W*(?:no[,.] )?(?:(?:i'm|i am|so|very|\w+ly) )*(?:sorry|afraid|i (?:\w+ly )?(?:do )?apologi[sz]e|"
    r"(?:my )?apologies)\b"
)
_SORRY_UNABLE = re.compile(
    rf"{_SORRY}(?:[^.!?]|\.\d)*?\b(?:can(?:no|')t|unable|won't|will not|decline|refuse|inappropriate|"
    rf"unethical|harmful|illegal|"
    rf"offensive|not (?:able|going|allowed|permitted|comfortable|something|{_WRONG}))\b"
)
_APOLOGY_BUT = re.compile(r"\W*(?:i (?:\w+ly )?apologi[sz]e|(?:my )?apologies)[,;]? (?:but|however)\b")
_IMPERSONAL = re.compile(
    r"\W*(?:no[,.] )?(?:as an? [^.,]*, )?(?:i (?:must|have to|need to|would like to) (?:\w+ly )?(?:inform|"
    r"remind|advise|say|"
    r"note|point out|emphasi[sz]e|clarify)\b[^.]*? that )?(?:(?:it|that|this)(?:'s| is| would be) (?:(?:not|"
    r"never|neither)"
    rf" (?:\w+ly )?{_WRONG}\b|(?:\w+ly )?(?:inappropriate|unethical|illegal and (?:\w+ly )?(?:unethical|"
    rf"immoral|harmful)))|"
    r"(?:this|that|the|your) (?:request|question|prompt|topic|query|content|statement|message|"
    r"subject)\b(?: you\w*| itself)* "
    r"(?:(?:is|are|seems?|appears?|contains?|promotes?|violates?|goes against|may be|"
    r"could be)\b[^.]*?\b(?:inappropriate|"
    rf"harmful|offensive|unethical|illegal|discriminatory|hateful|derogatory|violat\w+|not {_WRONG})|"
    r"can(?:no|')t be (?:fulfilled|completed|processed|answered)))"
)
_NOT_ITS_OWN = re.compile(r"[\"“«][^\"”»\n]{0,400}[\"”»]|^\s*(?:[-*>]\s|[\w ]{1,30}:\s).*$", re.MULTILINE)
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

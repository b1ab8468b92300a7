"""Short lists of English words: which show that a text is English, which name nobody's subject."""

from __future__ import annotations

__all__ = ["ENGLISH", "FIRST_PERSON", "SECOND_PERSON", "STOP_WORDS"]

_FIRST_PERSON = "i me my mine myself we us our ours ourselves i'm i've i'd i'll we're we've we'd we'll"
_SECOND_PERSON = "you your yours yourself you're you've you'd you'll"
_ENGLISH = """
the of and to is that it was for with as on be at by this had not are but from or have they which one you were all her
she there would their we him been has when who will no more if out so up said what its about than into them can only
other time new some could these two may first then do any my now such like our over me even most made after also did
many off before must well back through years where much your way down should because each just those people how too
very he his i an
"""
_STOP_WORDS = """
a in man am being does doing having here herself himself itself themselves they're they've they'd they'll he's she's
it's that's there's what's who's isn't aren't wasn't weren't don't doesn't didn't won't wouldn't can't cannot couldn't
shouldn't hasn't haven't hadn't again against further once nor own same until while under between both during few above
below every another around however although though since still yet get got go going went come came make makes making
take took taken use used using see seen say says told tell know known think want need let lot really quite rather thing
things something anything everything nothing someone anyone everyone good great little big long old last next right
left put set keep give given gives ever never always often sometimes perhaps maybe within without upon toward towards
among across along per via etc whether why whose whom thus hence therefore moreover furthermore additionally instead
either neither able became become becomes seem seems seemed look looked looks looking find found day year three four
five six seven eight nine ten second third less least several enough already almost away ago far yes case part end kind
different based include includes including provide provides
"""

FIRST_PERSON = frozenset(_FIRST_PERSON.split())
SECOND_PERSON = frozenset(_SECOND_PERSON.split())
ENGLISH = frozenset(_ENGLISH.split())
"""Frequent words that are rare in other languages that use Latin letters."""
STOP_WORDS = ENGLISH | FIRST_PERSON | SECOND_PERSON | frozenset(_STOP_WORDS.split())

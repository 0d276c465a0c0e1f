"""The words by which people ask, in English and Spanish: what courtesy may precede a command, what takes it back, and
which words begin one. Read by `agents/commands.py`; every word is folded.
"""

import re
from functools import cache

from agents.figures import MONTHS

_DAYS = (
    rf"(?:{MONTHS}|noon|lunch|(?:mon|tues|wednes|thurs|fri|satur|sun)day|tomorrow|lunes|martes|miercoles|"
    r"jueves|viernes)\b"
)

# Said out of courtesy, though single words of it would forbid something or set a condition.
_COURTESY = (
    r"no (?:problem|worries|rush|hurry)|sin (?:problema|prisa)|de acuerdo|when you (?:have|get) a "
    r"(?:minute|moment|second|chance)|cuando tengas un (?:minuto|momento|rato|hueco)|"
    r"(?:(?:when|if) you can|if you please|cuando pued[ae]s|si puedes|si no te importa)(?=\s*(?:[,.!?;]|$))|"
    r"(?:can|could|would|will) (?:you|u)|(?:can|could) (?:i|we)|(?:i|we)(?: would|'?d) like(?: you)? to"
)
WOULD_YOU = re.compile(r"\b(?:(?:can|could|would|will) (?:you|u)|puedes|podeis|podrias|podriais)\b")
ASKS_WHETHER = re.compile(r"\b(?:can|could) (?:i|we)\b")
HARMLESS = re.compile(
    rf"\b(?:{_COURTESY}|no point|(?:room|space|places?|spots?)(?: left| free)?\? if (?:yes|so)|"
    rf"(?:i|we)(?: would|'?d) like|"
    rf"(?:before|after|until|till|hasta|antes de) (?:(?:the|el|next|end of) )*(?=\d|{_DAYS}))",
    re.MULTILINE,
)
_FORBIDS = (
    r"not|(?:do|does|did|is|are|was|were|has|have|had|wo|would|could|should|must|ca|need|might)nt|cannot|never|no|"
    r"nor|neither|nobody|no one|none|nothing|without|avoid\w*|stop|refrain\w*|refus\w*|forbid\w*|prohibit\w*|"
    r"abstain\w*|except\w*|hold (?:off|on)|wait|nunca|jamas|sin|evit\w+|nadie|nada|ningun\w*|tampoco|ni|prohib\w+|"
    r"absten\w+|excepto|salvo|esper\w+|but|instead|rather|forget|ignore|scratch|undo|mind|wrong|mistake|joking|kidding|keep|leave|"
    r"pero|sino|mejor|en vez|olvid\w+|dej[ae]\w*|ignor\w+"
)
_CONDITIONS = (
    r"as soon as|as long as|event|subject to|pending|later|first|check with|en cuanto|con tal|primero|consult\w+|"
    r"if|unless|whether|until|till|once|only|provided|assuming|suppos\w+|case|when|whenever|before|after|si|solo|"
    r"solamente|cuando|hasta|siempre que|mientras|caso|antes|despues|tras|menos que"
)
_LEFT_OPEN = (
    r"confirm\w*|approv\w*|agree\w*|permission|consent\w*|authori\w+|ask (?:me|us|her|him|them|first)|acept\w+|"
    r"aprueb\w+|aprob\w+|permiso|autori\w+|pregunt\w+|would|could|should|might|maybe|perhaps|consider|draft\w*|"
    r"propos\w*|suggest\w*|pretend|imagin\w+|example|simulat\w*|dry run|quiza\w*|tal vez|podria\w*|deberia\w*|"
    r"propon\w*|sugier\w+|borrador|ejemplo|simula\w*"
)
GUARDED = re.compile(rf"\b(?:{_FORBIDS}|{_CONDITIONS}|{_LEFT_OPEN})\b")

GREETING = re.compile(r"(?:hi|hello|hey|dear|morning|good|hola|buenas|buenos)\b(?: [a-z]+){0,2}")
LEAD = re.compile(
    rf"(?:please|pls|por favor|porfa|thanks|thank you|gracias|yes|yeah|ok|okay|sure|right|great|vale|claro|perfecto|"
    rf"venga|now|ahora|just|also|too|so|and|then|y|luego|tambien|{_COURTESY}|(?:i|we) (?:want|need)(?: you)? to|let'?s|"
    rf"go ahead(?: and)?|(?:me |nos )?(?:puedes|puede|podeis|podrias|podriais)|"
    rf"(?:quiero|queremos|quisiera|querria|necesito|hay) que|quiero|queremos|quisiera|querria|necesito|me gustaria|"
    rf"a ver si|if (?:yes|so))(?!\w)\s*"
)
# Headings under which a list of commands may stand.
HEADING = re.compile(r"(?:(?:do|the|following|these|things?|tasks?|to|todo|haz|lo|siguiente|est[ao]s|cosas|tareas) ?)*")
# From here on it is what somebody is to hear: "tell Ana to call us and book a class" books nothing.
OPENS_CONTENT = re.compile(
    r"(?:tell|write|e-?mail|mail|text|message|whatsapp|sms|remind|notify|inform|let|send|di|escrib|avis|record|recuerd|"
    r"notific|envi|mand)\w*(?: to)?\b.*\b(?:to|that|que|about|saying|diciendo)\b"
)
# A word that is a verb elsewhere is a noun before these: "e-mail address", "refund policy".
AFTER_A_NOUN = {
    "address", "addresses", "policy", "policies", "history", "number", "numbers", "list", "lists", "of", "from",
    "is", "was", "are", "were", "has", "had", "have", "template", "templates", "id", "ids", "disputes", "club",
    "clubs",
}  # fmt: skip
_SPANISH = r"(?:a|e|ar|er|ir|an|en|ad|ed)?(?:me|te|se|le|les|la|las|lo|los|nos)*"
ABOUT_WORDS = (
    "tell|write|email|mail|text|message|whatsapp|sms|remind|notify|inform|send|read|summarise|summarize|explain|report|post|"
    "publish|dile|diles|di~|escrib~|avis~|record~|recuerd~|inform~|notific~|envi~|mand~|resum~|explic~|public~"
)
# Where one of these begins a part of a sentence, it begins another command.
VERBS = (
    "look|find|search|show|tell|give|list|check|see|get|read|open|pull|fetch|take|let|make|put|set|add|remove|delete|"
    "update|change|move|book|reserve|sign|enrol|enroll|register|cancel|freeze|pause|suspend|resume|reactivate|activate|"
    "unfreeze|charge|bill|collect|refund|reimburse|return|send|write|email|mail|text|message|whatsapp|sms|remind|call|"
    "notify|inform|mark|tag|label|untag|export|download|extract|schedule|plan|post|publish|create|record|start|run|"
    "launch|trigger|report|summarise|summarize|explain|compare|count|follow|win|invite|offer|convert|reschedule|"
    "busca~|mir~|muestr~|ensen~|di~|dime|dile|diles|decir~|da|dar~|dame|dale|darle|list~|revis~|comprueb~|"
    "comprob~|consult~|pon~|"
    "quit~|saca~|apunt~|reserv~|inscrib~|cancel~|anul~|congel~|paus~|suspend~|reactiv~|activa|activar|cobr~|carga~|"
    "factur~|reembols~|devuelv~|devolv~|envi~|mand~|escrib~|avis~|recuerd~|record~|inform~|notific~|cambi~|muev~|mov~|"
    "pas~|actualiz~|marc~|borr~|elimin~|cre~|anad~|registr~|export~|descarg~|program~|planific~|lanz~|inici~|public~|"
    "etiquet~|explic~|resum~|llam~"
)


@cache
def _pattern(wanted: str) -> re.Pattern[str]:
    kinds = {"*": r"\w*", "~": _SPANISH}
    parts = [re.escape(one.rstrip("*~")) + kinds.get(one[-1], "") for one in wanted.split("|")]
    return re.compile("|".join(parts))


def is_word(wanted: str, word: str) -> bool:
    """Whether a word is one of those, apart by bars, that `wanted` stands for."""
    return _pattern(wanted).fullmatch(word) is not None


# What a command may say beside what was asked for: any other word may turn its meaning.
FILLERS = {
    "a", "an", "and", "the", "to", "for", "of", "from", "in", "on", "at", "into", "as", "by", "with", "his", "her",
    "their", "my", "our", "this", "these", "it", "its", "them", "him", "they", "please", "now", "today", "eur",
    "euro", "euros", "usd", "dollar", "dollars", "gbp", "pound", "pounds", "client", "customer", "member", "lead",
    "el", "la", "los", "las", "un", "una", "unos", "de", "del", "al", "y", "por", "para", "en", "con", "su", "sus",
    "mi", "mis", "este", "esta", "lo", "le", "les", "hoy", "ahora", "porfa", "favor", "cliente", "socio", "socia",
    "thanks", "gracias",
}  # fmt: skip
# How long something is to last, which says no more than that where no money moves.
SPANS = {
    "month", "months", "week", "weeks", "mes", "meses", "semana", "semanas", "one", "un", "una", "uno",
}  # fmt: skip
# Where a reason, or what somebody is to hear, begins.
REASON = re.compile(r"[,:]|\b(?:because|porque|since|as)\b")
CONTENT = re.compile(r"[,:]|\b(?:de que|about|that|because|porque|que|sobre|saying|diciendo|since|as)\b|(?<=~) to\b")
# Whoever stands behind one of these has written, or is written about, and is not written to.
SOURCES = {"of", "from", "by", "with", "de", "del", "con"}
# Where a command names nobody, one of these says that it is about whom the request names elsewhere: "book her".
REFERS = {
    "her", "him", "his", "them", "their", "they", "it", "my", "me", "mine", "this", "that", "member", "client",
    "customer", "le", "lo", "la", "su", "sus", "mi", "este", "esta", "ella", "el", "socio", "socia", "cliente",
}  # fmt: skip
CLITIC = re.compile(r"\w+(?:r|a|e)(?:le|les|lo|la|los|las|se|selo|sela|me)")

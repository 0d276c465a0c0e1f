"""Social posts and hashtags, made from templates and the gym's own classes. Pure and deterministic."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

from business.office.schemas import Subject, Tone
from business.office.tongues import description_in, kind_in, name_in
from domain.office.schemas import POST_LENGTH, Language, Platform

_TEMPLATES: dict[Language, dict[Tone, tuple[str, ...]]] = {
    "en": {
        "friendly": (
            "New to {name}? So was everybody once. {description} Come as you are.",
            "{name} is better in company. {description} Bring a friend.",
            "A little time for yourself: {name}. {description} We look forward to seeing you.",
        ),
        "energetic": (
            "Ready for {name}? {description} Let's go!",
            "Shake off the week with {name}! {description} See you on the floor!",
            "Your energy, our music, one class: {name}! {description} Are you in?",
        ),
        "informative": (
            "{name}, in short: {description} Ask us if you want to know more.",
            "What to expect from {name}: {description} Places are limited; book ahead.",
            "On our timetable: {name}{kind}. {description}",
        ),
    },
    "es": {
        "friendly": (
            "¿Primera vez en {name}? Todos empezamos un día. {description} Ven tal como eres.",
            "{name} sabe mejor en compañía. {description} Trae a alguien contigo.",
            "Un rato para ti: {name}. {description} Te esperamos.",
        ),
        "energetic": (
            "¿Todo listo para {name}? {description} ¡Vamos!",
            "¡Suelta la semana con {name}! {description} ¡Nos vemos en la sala!",
            "Tu energía, nuestra música y una clase: ¡{name}! {description} ¿Te apuntas?",
        ),
        "informative": (
            "{name}, en pocas palabras: {description} Pregúntanos lo que quieras.",
            "Qué esperar de {name}: {description} Las plazas son limitadas; reserva con tiempo.",
            "En nuestro horario: {name}{kind}. {description}",
        ),
    },
}
_NEXT: dict[Language, str] = {"en": "Next class: {when}.", "es": "Próxima clase: {when}."}
_WHEN: dict[Language, str] = {"en": "{day} at {time}", "es": "{day} a las {time}"}
_DAYS: dict[Language, tuple[str, ...]] = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
}
_COMMON_TAGS: dict[Language, tuple[str, ...]] = {
    "en": ("Fitness", "Gym", "GroupClasses", "MoveMore", "HealthyHabits", "Training", "FeelGood", "Wellbeing"),
    "es": ("Fitness", "Gimnasio", "ClasesColectivas", "Muevete", "VidaSana", "Entrenamiento", "Bienestar", "Salud"),
}
_TAGS_IN_A_POST: dict[Platform, int] = {"instagram": 5, "facebook": 2, "x": 2, "linkedin": 3}


def in_words(moment: datetime, language: Language) -> str:
    """Return a time within the coming week in words."""
    return _WHEN[language].format(day=_DAYS[language][moment.weekday()], time=f"{moment:%H:%M}")


def posts(subjects: Sequence[Subject], count: int, *, platform: Platform, tone: Tone, language: Language) -> list[str]:
    """Return up to `count` different posts, about the subjects in turn."""
    templates = _TEMPLATES[language][tone]
    made = []
    for number in range(min(count, len(subjects) * len(templates))):
        round_, place = divmod(number, len(subjects))
        template = templates[(round_ + place) % len(templates)]
        made.append(_post(subjects[place], template, platform, language))
    return made


def _post(subject: Subject, template: str, platform: Platform, language: Language) -> str:
    said = _sentence(description_in(subject.description, subject.category, language))
    kind = kind_in(subject.category, language)
    words = template.format(name=subject.name, kind=f" ({kind})" if kind else "", description=said)
    words = " ".join(words.split())
    if subject.when:
        words += " " + _NEXT[language].format(when=subject.when)
    most = POST_LENGTH[platform]
    tags = hashtags([subject], None, language, _TAGS_IN_A_POST[platform])
    while tags and len(words) + sum(len(tag) + 1 for tag in tags) > most:
        tags.pop()
    return " ".join([words if len(words) <= most else words[: most - 1] + "…", *tags])


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?", "…")) else text + "."


def hashtags(subjects: Iterable[Subject], topic: str | None, language: Language, count: int) -> list[str]:
    """Return up to `count` hashtags: the topic, the classes and their kinds, then those common to all gyms."""
    words = [topic or ""]
    for subject in subjects:
        words += [name_in(subject.name, language), kind_in(subject.category, language) or ""]
    different: dict[str, str] = {}
    for tag in map(_tag, (*words, *_COMMON_TAGS[language])):
        different.setdefault(tag.casefold(), tag)
    different.pop("#", None)
    return list(different.values())[:count]


def _tag(words: str) -> str:
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
    return "#" + "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", plain))

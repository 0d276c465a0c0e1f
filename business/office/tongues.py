"""The two languages in which posts are written, and how they use a gym's own words. Pure functions.

A gym writes the name, kind and description of a class in either language. A name stays as it is; a common kind has a
word in each language; a description in the other language is replaced by a sentence about the kind.
"""

import re
import unicodedata
from typing import NamedTuple

from domain.office.schemas import Language


class _Kind(NamedTuple):
    """A kind of class: its name and a sentence about it, by language."""

    name: dict[Language, str]
    sentence: dict[Language, str]


def _kind(english: str, spanish: str, said: str, dicho: str) -> _Kind:
    return _Kind({"en": english, "es": spanish}, {"en": said, "es": dicho})


_KINDS = (
    _kind("cardio", "cardio", "Get your heart going.", "Para subir pulsaciones y sudar."),
    _kind("strength", "fuerza", "Strength for the whole body.", "Fuerza para todo el cuerpo."),
    _kind("mind and body", "cuerpo y mente", "Breath, balance and calm.", "Respiración, equilibrio y calma."),
    _kind("mind", "mente", "Breath, balance and calm.", "Respiración, equilibrio y calma."),
    _kind("body", "cuerpo", "Work for the whole body.", "Trabajo para todo el cuerpo."),
    _kind("combat", "combate", "Technique, reflexes and energy.", "Técnica, reflejos y energía."),
    _kind("dance", "baile", "Music and rhythm, no steps to learn.", "Música y ritmo, sin pasos que aprender."),
    _kind("water", "agua", "Gentle training in the pool.", "Entrenamiento suave en la piscina."),
    _kind("mobility", "movilidad", "Stretch, loosen up and recover.", "Estirar, soltar y recuperar."),
    _kind("flexibility", "flexibilidad", "Stretch, loosen up and recover.", "Estirar, soltar y recuperar."),
    _kind("endurance", "resistencia", "Train your stamina.", "Entrena tu resistencia."),
    _kind("balance", "equilibrio", "Find your balance.", "Encuentra tu equilibrio."),
)
# Words of class names, English and Spanish, for hashtags.
_WORDS: dict[str, str] = {
    "stretch": "estiramientos", "stretching": "estiramientos", "mobility": "movilidad", "strength": "fuerza",
    "boxing": "boxeo", "dance": "baile", "swimming": "natación", "cycling": "ciclismo", "running": "carrera",
    "morning": "mañana", "evening": "tarde", "beginners": "principiantes", "advanced": "avanzado", "and": "y",
    "core": "abdominales", "balance": "equilibrio", "meditation": "meditación", "kids": "niños", "circuit": "circuito",
    "training": "entrenamiento", "women": "mujeres", "men": "hombres", "back": "espalda", "water": "agua",
}  # fmt: skip
_COMMON: dict[Language, frozenset[str]] = {
    "en": frozenset({
        "the", "a", "an", "of", "and", "to", "in", "is", "are", "for", "with", "on", "at", "from", "your", "you", "our",
        "we", "all", "no", "by", "this", "that", "it", "whole", "short", "hard", "class", "training", "can", "be",
        "many", "light", "indoor", "music", "day",
    }),
    "es": frozenset({
        "el", "la", "los", "las", "un", "una", "de", "del", "que", "y", "en", "por", "para", "con", "no", "se", "su",
        "sus", "es", "al", "todo", "toda", "todos", "todas", "sin", "tu", "clase", "muy", "entrenamiento", "puede",
        "música", "día",
    }),
}  # fmt: skip
_ONLY_SPANISH = re.compile(r"[ñ¿¡áéíóú]", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")


def kind_in(category: str, language: Language) -> str | None:
    """Return the kind of a class in a language; None if it is in the other language and no common kind."""
    found = _find(category)
    if found is not None:
        return found.name[language]
    return category if is_in(category, language) else None


def description_in(description: str, category: str, language: Language) -> str:
    """Return the description of a class if it is in the language; else a sentence about its kind, or nothing if the
    kind is not a common one.
    """
    if is_in(description, language):
        return description
    found = _find(category)
    return found.sentence[language] if found else ""


def name_in(name: str, language: Language) -> str:
    """Return a class's name for a hashtag: translated if every word of it has a translation, else as it is."""
    words = _WORD.findall(name.lower())
    table = _WORDS if language == "es" else {spanish: english for english, spanish in _WORDS.items()}
    return " ".join(table[word] for word in words) if words and all(word in table for word in words) else name


def is_in(text: str, language: Language) -> bool:
    """Whether a text is in the language, judged by its common words and letters. Without evidence it counts as English:
    a text without accents and common Spanish words is seldom Spanish.
    """
    words = [word.lower() for word in _WORD.findall(text)]
    spanish = sum(word in _COMMON["es"] for word in words) + 2 * len(_ONLY_SPANISH.findall(text))
    english = sum(word in _COMMON["en"] for word in words)
    return (spanish > english) == (language == "es")


def _find(category: str) -> _Kind | None:
    wanted = _folded(category)
    return next((kind for kind in _KINDS if wanted in {_folded(name) for name in kind.name.values()}), None)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKD", text.strip().lower()).encode("ascii", "ignore").decode()

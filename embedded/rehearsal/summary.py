"""The final text: the results of the calls in plain English or Spanish, always marked as a rehearsal."""

from dataclasses import dataclass
from typing import Any

from embedded.rehearsal.spanish import LABELS, NAMES, VALUES
from embedded.rehearsal.talk import Call, ToolOffer

_MOST_ROWS, _MOST_FIELDS = 5, 6
_HIDDEN = ("_id", "notes", "tags", "language", "description", "count")

_PHRASES = {
    "en": {
        "mark": "[Rehearsal]",
        "done": "Done",
        "suggested": "Suggested ({tool}); it is done when it is accepted.",
        "found": "{count} found",
        "none": "nothing found",
        "refused": "That was not possible ({tool}): {reason}",
        "missing": "For that I need to know {what}. Could you tell me?",
        "not_found": "I looked, but found no match for what you named. Could you check it?",
        "no_tool": "This is a rehearsal model without understanding: none of this agent's tools fits the message. "
        "A real model would answer here.",
        "tools": "Tools at hand: {tools}.",
        "more": "more",
        "yes": "yes",
        "no": "no",
    },
    "es": {
        "mark": "[Ensayo]",
        "done": "Hecho",
        "suggested": "Propuesto ({tool}); se hará cuando se acepte.",
        "found": "{count} resultados",
        "none": "no he encontrado nada",
        "refused": "No ha sido posible ({tool}). El motivo está en los pasos de la tarea.",
        "missing": "Para eso necesito saber {what}. ¿Me lo puedes decir?",
        "not_found": "Lo he buscado, pero no encuentro nada que coincida. ¿Puedes comprobarlo?",
        "no_tool": "Esto es un modelo de ensayo que no entiende: ninguna herramienta de este agente encaja con el "
        "mensaje. Aquí respondería un modelo de verdad.",
        "tools": "Herramientas disponibles: {tools}.",
        "more": "algo más",
        "yes": "sí",
        "no": "no",
    },
}

_ASKED_FOR = {
    "en": {"client_id": "which member this is about (name or e-mail)", "session_id": "which class, and on which day",
           "lead_id": "which lead this is about", "query": "a name, e-mail or phone number to look for"},
    "es": {"client_id": "de qué cliente se trata (nombre o correo)", "session_id": "qué clase y qué día",
           "lead_id": "de qué contacto se trata", "query": "un nombre, correo o teléfono que buscar"},
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """The state of a goal: the call that was made for it, or the parameter that is missing."""

    tool: ToolOffer
    call: Call | None = None
    missing: str | None = None


def sum_up(message: str, findings: list[Finding], tools: list[ToolOffer], language: str) -> str:
    """Return the final text about all findings."""
    say = _PHRASES[language]
    if not findings:
        quoted = " ".join(message.split())[:160]
        offered = say["tools"].format(tools=", ".join(tool.name for tool in tools)) if tools else ""
        return f"{say['mark']} «{quoted}» {say['no_tool']} {offered}".strip()
    told = list(dict.fromkeys(_tell(finding, language) for finding in findings))
    return f"{say['mark']} " + "\n".join(told)


def _tell(finding: Finding, language: str) -> str:
    say = _PHRASES[language]
    call = finding.call
    if finding.missing:
        if call is not None and isinstance(call.result, dict) and call.result.get("count") == 0:
            return say["not_found"]
        what = _ASKED_FOR[language].get(finding.missing) or _label(finding.missing, language) or say["more"]
        return say["missing"].format(what=what)
    if call is None:
        return say["none"]
    if call.is_error:
        reason = call.result.get("error") if isinstance(call.result, dict) else call.result
        return say["refused"].format(tool=finding.tool.name, reason=reason)  # in English, as tools give it
    if isinstance(call.result, dict) and call.result.get("suggested"):
        return say["suggested"].format(tool=finding.tool.name)
    told = _describe(call.result, language)
    return f"{say['done']} ({finding.tool.name})" + (f": {told}" if told else ".")


def _describe(result: Any, language: str) -> str:
    if not isinstance(result, dict):
        return str(result)[:300] if language == "en" else ""
    plain = {key: value for key, value in result.items() if not isinstance(value, dict | list)}
    parts = [_fields(plain, language)]
    for key, value in result.items():
        label = _label(key, language)
        if isinstance(value, list) and label:
            parts.append(f"{label}: {_rows(value, language)}")
        elif isinstance(value, dict) and label and (fields := _fields(value, language)):
            parts.append(f"{label}: {fields}")
    return "; ".join(part for part in parts if part)


def _rows(rows: list[Any], language: str) -> str:
    say = _PHRASES[language]
    if not rows:
        return say["none"]
    listed = [_fields(row, language) if isinstance(row, dict) else str(row) for row in rows[:_MOST_ROWS]]
    return say["found"].format(count=len(rows)) + "".join(f"\n  - {line}" for line in listed if line)


def _visible(row: dict[str, Any], language: str) -> dict[str, Any]:
    return {
        key: value
        for key, value in row.items()
        if value not in (None, "", [])
        and not key.endswith(_HIDDEN)
        and not isinstance(value, dict | list)
        and _label(key, language)
    }


def _fields(row: dict[str, Any], language: str) -> str:
    shown = list(_visible(row, language).items())[:_MOST_FIELDS]
    return ", ".join(f"{_label(key, language)} {_value(key, value, language)}" for key, value in shown)


def _value(key: str, value: Any, language: str) -> Any:
    if isinstance(value, bool):
        return _PHRASES[language]["yes" if value else "no"]
    if language == "es" and isinstance(value, str) and key not in NAMES:
        return VALUES.get(value, value)
    return value


def _label(key: str, language: str) -> str | None:
    """Return the label of a field; None if it has none in the language, and is left out."""
    return LABELS.get(key) if language == "es" else key.replace("_", " ")

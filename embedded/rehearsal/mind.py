"""Choose the next turn: match words to find tools, plan backwards from them, and sum the results up at the end.

1. The message is split into clauses. Each may have one goal: the tool whose name and description share its words.
2. A goal is called if the message fills its required parameters. If it needs an id, the tool whose description says
   that it returns that id is called first, and so on backwards. All calls that are possible now are made together.
3. When no more calls are possible, the results are summed up in the language of the message.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from core.text import fold
from embedded.rehearsal import extract
from embedded.rehearsal.fill import MISSING, Situation, fill
from embedded.rehearsal.lexicon import concepts, language_of
from embedded.rehearsal.summary import Finding, sum_up
from embedded.rehearsal.talk import Call, Talk, ToolOffer, Turn

_CLAUSE_END = re.compile(
    r"[?!;\n]+|\.(?=\s|$)|,?\s+(?:and also|also|y también|y tambien|además|ademas|y luego|and then)\s+", re.IGNORECASE
)
_OUTSIDE = r"\[All that follows was written[^\n]*\]\n"
_CONTEXT = re.compile(
    rf"\n\n(?:{_OUTSIDE})?\[Context\]\n.*|\A(?:(?:{_OUTSIDE})?\[Context\]\n.*?\n\n)?{_OUTSIDE}", re.DOTALL
)
_SPACES = re.compile(r"[ \t]+")
# Rehearsals need no long messages, and the running time must not grow with them.
_MOST_READ, _MOST_CLAUSES, _MOST_GOALS = 4_000, 20, 3
_NAME_WEIGHT, _DESCRIPTION_WEIGHT, _PARAMETER_WEIGHT, _NAMES_A_DAY = 3.0, 1.0, 0.8, 1.2
_LEAST_SCORE, _LEAST_SCORE_ABOUT_SOMEBODY = 2.2, 1.4
# A tool that changes something is a goal only if the message asks for that very change.
_CHANGING = {"update", "book", "cancel", "create", "send", "delete", "charge", "set"}
_DEPTH = 3
_FEW_TOOLS = 8
_SOME_DAY = date(2000, 1, 1)
# Verbs that turn "book" and "booking" into a wish for something else.
_OTHER_WISHES = {"cancel", "freeze", "search", "move", "check", "profile", "history", "update"}
_NEGATED = re.compile(r"\b(don'?t|do not|never|no quiero|every|all|todos|todas|if i'?m|si estoy|how .* work|como se)\b")
_OPENERS = re.compile(r"^((and|so|but|y|e|pero|hi|hello|hola|hey|ok|please|also)[, ]+)+")
_ASKS = re.compile(
    r"(how|who|which|what|when|why|list|show|did|does|last|ultim|cuant|quien|cual|que |cuando|lista|dime|i was|i think)"
)
_ASKS_YES_OR_NO = re.compile(r"(is|are|was|were|has|have|am|esta|estoy|estan|hay|ha|he)\b")
# Factors of the score: the message asks for the tool's change; the tool concerns one person and the message names one.
_TOLD_TO, _FITS_WHO_IS_NAMED = 2.5, 1.25


@dataclass(frozen=True)
class Goal:
    """A tool that fits a clause of the message."""

    clause: str
    tool: ToolOffer
    score: float


def next_turn(talk: Talk) -> Turn:
    """Return the next turn of the conversation: calls to make together, or the final text."""
    message = _SPACES.sub(" ", _CONTEXT.sub("", talk.message)[:_MOST_READ])
    language = language_of(message)
    today = extract.today_in(talk.system, datetime.now(UTC).date())
    goals = find_goals(message, talk.tools)
    planned: list[tuple[str, dict[str, Any]]] = []
    findings: list[Finding] = []
    for goal in goals:
        finding, calls = _pursue(goal, talk, message, today)
        planned += [call for call in calls if call not in planned]
        findings.append(finding)
    if planned:
        return Turn(text="", calls=planned)
    return Turn(text=sum_up(message, findings, talk.tools, language))


def find_goals(message: str, tools: list[ToolOffer]) -> list[Goal]:
    """Return the best tool for each clause, if one fits; at most three goals, each tool and clause once."""
    rarity = _rarity(tools)
    least = _LEAST_SCORE_ABOUT_SOMEBODY if extract.names(message) or extract.email(message) else _LEAST_SCORE
    # With few tools, every concept is common among them and scores low, so the threshold is lower too.
    least *= min(1.0, math.log(1 + len(tools)) / math.log(1 + _FEW_TOOLS))
    found: list[Goal] = []
    for clause in [part.strip() for part in _CLAUSE_END.split(message) if part and part.strip()][:_MOST_CLAUSES]:
        fitting = [goal for tool in tools if (goal := _fit(clause, message, tool, rarity)).score >= least]
        if fitting:
            best = max(fitting, key=lambda goal: (goal.score, goal.tool.name))
            if all(best.tool.name != goal.tool.name for goal in found):
                found.append(best)
    if not found:
        whole = [goal for tool in tools if (goal := _fit(message, message, tool, rarity)).score >= least]
        found = [max(whole, key=lambda goal: (goal.score, goal.tool.name))] if whole else []
    return found[:_MOST_GOALS]


def _rarity(tools: list[ToolOffer]) -> dict[str, float]:
    """Return the weight of each concept: the fewer tools mention it, the higher (inverse document frequency)."""
    mentions = Counter(one for tool in tools for one in set(concepts(f"{tool.name} {tool.description}")))
    return {one: math.log(1 + len(tools) / count) for one, count in mentions.items()}


def _fit(clause: str, message: str, tool: ToolOffer, rarity: dict[str, float]) -> Goal:
    said = set(concepts(clause))
    in_name, in_description = set(concepts(tool.name)), set(concepts(_purpose(tool)))
    in_parameters = _parameter_concepts(tool)
    score = sum(
        rarity.get(one, 1.0) * _weight(one, in_name, in_description)
        for one in said & (in_name | in_description | in_parameters)
    )
    if _takes_a_day(tool) and (extract.days(clause, _SOME_DAY) or extract.months(clause, _SOME_DAY)):
        score += _NAMES_A_DAY
    verb = concepts(tool.name)[:1]
    if verb and verb[0] in _CHANGING:
        score *= _TOLD_TO if _says_to_do_it(verb[0], clause, message, tool) else 0
    about_one = any(name in {"client_id", "lead_id"} for name in tool.parameters.get("required", []))
    names_one = bool(extract.names(message) or extract.email(message) or extract.uuids(message))
    if about_one or not tool.name.startswith("search"):
        score *= _FITS_WHO_IS_NAMED if about_one == names_one else 1 / _FITS_WHO_IS_NAMED
    return Goal(clause, tool, score)


def _purpose(tool: ToolOffer) -> str:
    """Return the description of a tool up to the part about its result."""
    return re.split(r"\bReturns\b", tool.description)[0]


def _weight(one: str, in_name: set[str], in_description: set[str]) -> float:
    if one in in_name:
        return _NAME_WEIGHT
    return _DESCRIPTION_WEIGHT if one in in_description else _PARAMETER_WEIGHT


def _parameter_concepts(tool: ToolOffer) -> set[str]:
    """Return the concepts of the examples in the descriptions of the parameters ("such as …")."""
    described = [field.get("description", "") for field in tool.parameters["properties"].values()]
    return {one for text in described for one in concepts(text.partition("such as ")[2].partition(";")[0])}


def _takes_a_day(tool: ToolOffer) -> bool:
    return any(field.get("format") == "date" for field in tool.parameters["properties"].values())


def _says_to_do_it(verb: str, clause: str, message: str, tool: ToolOffer) -> bool:
    said = set(concepts(clause))
    if _NEGATED.search(fold(clause)) or _only_asks(clause, message):
        return False
    options = [field["enum"] for field in tool.parameters["properties"].values() if "enum" in field]
    if options:
        # "Freeze it" asks for "update … status: frozen" without the word "update".
        return any(set(concepts(str(value))) <= said for value in options[0]) and "book" not in said
    return verb in said and not said & (_OTHER_WISHES - {verb})


def _only_asks(clause: str, message: str) -> bool:
    """Whether a clause asks about something rather than for a change: "how many cancelled?", "who is booked?"."""
    beginning = _OPENERS.sub("", fold(clause).lstrip("¿¡ "))
    follows = message[message.find(clause) + len(clause) :][:1]
    is_question = "?" in clause or follows == "?"
    return bool(_ASKS.match(beginning)) or (is_question and bool(_ASKS_YES_OR_NO.match(beginning)))


def _pursue(goal: Goal, talk: Talk, message: str, today: date) -> tuple[Finding, list[tuple[str, dict[str, Any]]]]:
    """Return the state of a goal, and the calls to make for it now."""
    here = Situation(goal.clause, message, today, talk.calls)
    done = [call for call in talk.calls if call.name == goal.tool.name]
    if done:
        return Finding(goal.tool, done[-1]), []
    arguments, missing = _arguments(goal.tool, here)
    if not missing:
        return Finding(goal.tool), [(goal.tool.name, arguments | _rationale(goal, arguments))]
    steps, unknown = [], None
    for name in missing:
        found = _produce(name, goal, talk, here, _DEPTH)
        steps += found or []
        unknown = unknown or (None if found else name)
    # Look missing values up only if all of them can be obtained.
    if unknown:
        return Finding(goal.tool, _last_search(talk, goal), missing=unknown), []
    return Finding(goal.tool), steps


def _arguments(tool: ToolOffer, here: Situation, *, to_find: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters that can be filled, and the names of the required ones that cannot.

    If the tool is called only `to_find` a value for another tool, its enum parameters are not filled: "freeze Ana" does
    not mean to search for frozen clients.
    """
    required = frozenset(tool.parameters.get("required", []))
    here = replace(here, topic=frozenset(concepts(tool.name)), required=required, taken=[])
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    filled: dict[str, Any] = {}
    for name, schema in properties.items():
        if name.startswith("_") or (to_find and "enum" in schema):
            continue
        value = fill(name, schema, here)
        if value is not MISSING:
            filled[name] = value
            here.taken.append(value)
    return filled, [name for name in tool.parameters.get("required", []) if name not in filled]


def _produce(name: str, goal: Goal, talk: Talk, here: Situation, depth: int) -> list[tuple[str, dict[str, Any]]] | None:
    """Return calls that lead to a value for the parameter `name`: of a tool that returns it, or of tools that provide
    what that tool needs. None if there is no such tool, or if it was called and did not return the value.
    """
    if depth == 0:
        return None
    for tool in talk.tools:
        if tool.name == goal.tool.name or name not in _returned(tool):
            continue
        arguments, missing = _arguments(tool, here, to_find=True)
        was_called = any(call.name == tool.name for call in talk.calls)
        if missing:
            steps = [_produce(one, goal, talk, here, depth - 1) for one in missing]
            if all(steps):
                return [step for several in steps for step in several or []]
        elif not was_called and _is_telling(tool, arguments):
            return [(tool.name, arguments | _rationale(goal, arguments))]
    return None


def _returned(tool: ToolOffer) -> set[str]:
    _, _, returned = tool.description.partition("Returns ")
    return set(re.findall(r"\b\w+_id\b", returned))


def _is_telling(tool: ToolOffer, arguments: dict[str, Any]) -> bool:
    """Whether a search has an argument, or takes none: a search without arguments finds every record."""
    return bool(arguments) or not tool.parameters.get("properties")


def _last_search(talk: Talk, goal: Goal) -> Call | None:
    wanted = set(goal.tool.parameters.get("required", []))
    offers = {tool.name: tool for tool in talk.tools}
    found = [call for call in talk.calls if call.name in offers and _returned(offers[call.name]) & wanted]
    empty: list[Call | None] = [
        call for call in found if isinstance(call.result, dict) and call.result.get("count") == 0
    ]
    return (empty or found or [None])[-1]


def _rationale(goal: Goal, arguments: dict[str, Any]) -> dict[str, Any]:
    """Fill the parameters that ask for the reasons of a call. They have a leading underscore, and their descriptions
    tell which reason is meant.
    """
    properties: dict[str, Any] = goal.tool.parameters.get("properties", {})
    about: dict[str, Any] = {}
    for name, schema in properties.items():
        if not name.startswith("_") or "considered" in schema.get("description", ""):
            continue  # the rehearsal model considers no alternatives
        if schema.get("type") == "number":
            about[name] = round(min(0.95, goal.score / (goal.score + 3)), 2)
        elif "why" in schema.get("description", "").lower():
            told = ", ".join(str(value) for value in arguments.values()) or "what was said"
            about[name] = f"The message asks for what {goal.tool.name} does; this call goes by {told}."
        else:
            about[name] = goal.clause[:120]
    return about

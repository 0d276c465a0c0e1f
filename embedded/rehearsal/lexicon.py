"""The vocabulary: English and Spanish words, mapped to common concepts. It holds words, not sentences."""

import functools
import re

from core.text import fold

_CAMEL = re.compile(r"([a-z])([A-Z])")
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")

# Each concept, then the word forms that mean it, in both languages. Tool descriptions are mapped in the same way.
_CONCEPTS = """
book: book booking booked bookings reserve reserved reservation reservations reservar reserva reservas reservame
    reservo apuntar apunta apuntame apuntarme apuntarse inscribir inscribe inscribeme inscripcion enroll enrol
    signup sign apuntes apuntanos enrolar
cancel: cancel cancels cancelled canceled cancelling cancellation cancelar cancela cancelada cancelado canceladas
    cancelo cancelacion baja quit terminate
freeze: freeze frozen freezing pause paused pausing congelar congela congelada congelado pausar pausa suspend
    suspender hold
active: active reactivate reactivated resume unfreeze reactivar reactiva activar activa activo activos activas
lapsed: lapsed caducados
class: class classes clase clases lesson lessons session sessions sesion sesiones programme programmes program
schedule: schedule schedules timetable horario horarios calendario agenda time times hora horas dates
upcoming: upcoming next future proximo proxima proximos proximas futuras futuros
place: place places spot spots space availability available room plaza plazas hueco huecos sitio disponible
    disponibles disponibilidad libre libres capacity full llena lleno fullest emptiest empty vacia vacias queda
    quedan completa completo
attendee: attendee attendees attending participants participant asistentes apuntados inscritos coming list lista
client: client clients customer customers member members cliente clientes socio socia socios socias miembro miembros
membership: membership memberships membresia membresias abono abonos cuota
subscription: subscription subscriptions suscripcion suscripciones plan plans planes
profile: profile profiles details detail perfil ficha datos info information informacion contact contacto
payment: payment payments paid pay pays charge charges charged charging pago pagos pagado pagar cobro cobros cobrado
    cobrar cobraron cobrasteis billing bill billed invoice invoices factura facturas recibo recibos money dinero
    cobrada pague pagaron fee fees cuotas
revenue: revenue ingresado ingresamos facturamos earn make made income takings earned earnings turnover ingresos
    ingreso facturacion facturado ventas sales
failed: failed failing declined fallido fallidos fallidas rechazado rechazados devuelto
refunded: refund refunded refunds reembolso reembolsado reembolsos devolucion devolver
pending: pending outstanding pendiente pendientes
lead: lead leads prospect prospects interesado interesados interesada prospecto prospectos potenciales
pipeline: pipeline stage embudo etapa
engagement: engagement engaged score compromiso fidelidad puntuacion risk riesgo leaving irse
history: history historial past pasado pasadas attendance asistencia attended asistido asistidas
search: search find look buscar busca buscame encontrar encuentra encontradas
update: update change set mark move actualizar actualiza cambiar cambia marcar marca pasar pasa poner pon
status: status estado
new: new nuevo nueva nuevos nuevas newest recent recientes ultimos
contacted: contacted contactado contactada llamado called
won: won converted joined convertido ganado signed
lost: lost perdido perdida lose
trial: trial prueba
offer: offer offers offered ofreceis ofrecen teneis kinds tipos which cuales que
instructor: instructor instructora teacher trainer coach monitor monitora profesor profesora
email: email e-mail mail correo
phone: phone telephone telefono movil number
beginner: beginner beginners principiante principiantes iniciacion easy facil
advanced: advanced avanzado avanzados hard
intermediate: intermediate intermedio
renew: renew renews renewal renewed renueva renuevan renovar renovacion vence
visit: visit visits came come venido viene veces
level: level nivel
total: total totals how many cuantos cuantas cuanto much count
"""

_FILLER = set(
    """
a an the is are was were be been am i me my mine you your yours he she it its we us our they them their this that
these those of in on at to into from for with by as and or but if so do does did doing can could would will shall
should may might must have has had having please thanks thank hi hello hey dear good morning afternoon evening there
here not no yes just also too very really want wants need needs like get got give show see know let tell ok okay
about any some all un una unos unas el la los las lo de del al en para por con sin sobre y o u e pero si es son era
fue ser estar esta estan estoy soy eres somos yo tu usted ustedes ella ellos ellas nosotros mi mis tus su sus te se
le les nos os que quien cual como donde cuando puedes puede podeis podrias podria pueden quiero quiere queremos
quisiera necesito necesita gracias hola buenas buenos dias tardes noches favor tambien ademas muy mas menos ya hay
ha han haber hacer who whose whom somebody someone left still after before over under again because broke going go
goes went take took put add added onto up down out off more than other another else same first second third since
until every each people person gym gimnasio thing things much many lot bit only even well back wondering wonder ask
asking question questions help ayuda ayudar pregunta sorry perdon perdona problem problema being try trying tried
said says say dijo dice told everyone anyone everything anything nothing nobody llamo llama nombre called named mr
mrs ms sr sra don dona hermano hermana amigo amiga wife husband mujer marido hija hijo dar darme darse doy quitar
sacar meter llevar llevo dejar deja hecho hace hacen vamos voy va van vale claro nuestra nuestro todos todas todo
toda algun alguna alguno otra otro otras otros mismo misma mejor bien mal nunca siempre ahora luego entre desde
hasta hacia segun tan tanto poco mucho mucha muchos muchas cada dame dime ver saber este ese esa esto eso i'm i'd
i've it's what's don't can't im id pls plz thx ur what whatever why run runs open opens opened shut wanna gonna lol
true case sure
""".split()
)

WEEKDAYS = {
    "monday": 0, "mon": 0, "lunes": 0, "tuesday": 1, "tue": 1, "tues": 1, "martes": 1, "wednesday": 2, "wed": 2,
    "miercoles": 2, "thursday": 3, "thursdy": 3, "thu": 3, "thur": 3, "thurs": 3, "jueves": 3, "friday": 4, "fri": 4,
    "viernes": 4,
    "saturday": 5, "sat": 5, "sabado": 5, "sunday": 6, "sun": 6, "domingo": 6,
}  # fmt: skip
MONTHS = {
    "january": 1, "enero": 1, "february": 2, "febrero": 2, "march": 3, "marzo": 3, "april": 4, "abril": 4, "may": 5,
    "mayo": 5, "june": 6, "junio": 6, "july": 7, "julio": 7, "august": 8, "agosto": 8, "september": 9,
    "septiembre": 9, "october": 10, "octubre": 10, "november": 11, "noviembre": 11, "december": 12, "diciembre": 12,
}  # fmt: skip
_TIME_WORDS = {
    "month",
    "mes",
    "monthly",
    "mensual",
    "meses",
    "year",
    "ano",
    "finde",
    "evening",
    "tarde",
    "today",
    "tomorrow",
    "tomorow",
    "tmrw",
    "2moro",
    "yesterday",
    "hoy",
    "manana",
    "ayer",
    "week",
    "semana",
    "weekend",
    "tonight",
    "noche",
}

# Kinds of classes: what people call them, and the words that records use.
_TRANSLATED = {
    "boxeo": "boxing", "ciclo": "spin", "bici": "spin", "spining": "spin", "spinning": "spin", "natacion": "aqua",
    "aquagym": "aqua", "estiramientos": "stretch", "movilidad": "mobility", "baile": "dance", "fuerza": "strength",
}  # fmt: skip

_SPANISH = set(
    """
el la los las un una de del que y en por para con no si es esta estoy quiero puedes puede quiere hola gracias mi mis
clase clases reserva reservar cuando cuanto cuantos donde como porque pero tengo hay le lo me se su sus al mañana
jueves martes lunes viernes sabado domingo favor cliente socio cuota baja buenas dias necesito tambien cual cuales
""".split()
)
_ENGLISH = set(
    """
the a an of and to in is are my for with not can you your i what when where how why please hello hi thanks do does
have has this that class book want need it on at would could me tell show which many much who from cancel membership
""".split()
)
_SPANISH_LETTERS = re.compile(r"[ñ¿¡áéíóú]", re.IGNORECASE)


def words(text: str) -> list[str]:
    """Return the words of a text, folded, without possessive endings."""
    return [word.removesuffix("'s") for word in _WORD.findall(fold(text.replace("’", "'")))]


def concept(word: str) -> str:
    """Return the concept of a folded word, or the word itself without a plural ending."""
    if word in _CONCEPT_OF:
        return _CONCEPT_OF[word]
    for ending in ("ies", "es", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and stem in _CONCEPT_OF:  # noqa: PLR2004
            return _CONCEPT_OF[stem]
    return word.removesuffix("s") if len(word) > 3 else word  # noqa: PLR2004


def translate(word: str) -> str:
    """Return a kind of class in the words that records use."""
    return _TRANSLATED.get(word, word)


@functools.lru_cache(maxsize=1024)
def concepts(text: str) -> tuple[str, ...]:
    """Return the concepts of a text, without filler words."""
    return tuple(
        concept(word)
        for word in words(_CAMEL.sub(r"\1 \2", text.replace("_", " ")))
        if word in _CONCEPT_OF or word not in _FILLER
    )


def is_ordinary(word: str) -> bool:
    """Whether a folded word is part of the vocabulary, a day or a month, and therefore unlikely to be a name."""
    return word in _FILLER or word in _CONCEPT_OF or word in WEEKDAYS or word in MONTHS or word in _TIME_WORDS


def language_of(text: str) -> str:
    """Return `es` or `en`: the language with more of its common words in the text, Spanish letters included."""
    found = [word.strip("'") for word in words(text)]
    spanish = sum(word in _SPANISH for word in found) + 2 * len(_SPANISH_LETTERS.findall(text))
    english = sum(word in _ENGLISH for word in found)
    return "es" if spanish > english else "en"


def _concept_of() -> dict[str, str]:
    table: dict[str, str] = {}
    for line in _CONCEPTS.replace("\n    ", " ").strip().splitlines():
        name, _, forms = line.partition(": ")
        for form in forms.split():
            table.setdefault(form, name)
    return table


_CONCEPT_OF = _concept_of()

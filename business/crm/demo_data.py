"""What the demonstration gym is made of: classes, the weekly timetable, plans, names. All invented."""

from typing import Any

CLASSES: list[dict[str, Any]] = [
    {"name": "Spin", "category": "cardio", "level": "all levels", "duration_minutes": 45, "capacity": 18,
     "description": "Indoor cycling to music, intervals and climbs."},
    {"name": "Yoga Flow", "category": "mind and body", "level": "all levels", "duration_minutes": 60, "capacity": 16,
     "description": "Vinyasa yoga: breath, balance and strength."},
    {"name": "Pilates", "category": "mind and body", "level": "beginner", "duration_minutes": 50, "capacity": 12,
     "description": "Core strength and posture on the mat."},
    {"name": "HIIT", "category": "cardio", "level": "intermediate", "duration_minutes": 30, "capacity": 20,
     "description": "High-intensity interval training, short and hard."},
    {"name": "Boxing", "category": "combat", "level": "all levels", "duration_minutes": 60, "capacity": 14,
     "description": "Technique, pads and bags; gloves can be borrowed."},
    {"name": "CrossFit", "category": "strength", "level": "advanced", "duration_minutes": 60, "capacity": 12,
     "description": "Workout of the day with barbells and gymnastics."},
    {"name": "Zumba", "category": "dance", "level": "all levels", "duration_minutes": 50, "capacity": 22,
     "description": "Latin dance fitness; no steps to learn beforehand."},
    {"name": "Body Pump", "category": "strength", "level": "intermediate", "duration_minutes": 55, "capacity": 18,
     "description": "Barbell class for the whole body, light weights and many repetitions."},
    {"name": "Aqua Fit", "category": "water", "level": "beginner", "duration_minutes": 45, "capacity": 15,
     "description": "Gentle training in the pool, kind to joints."},
    {"name": "Stretch and Mobility", "category": "mind and body", "level": "all levels", "duration_minutes": 40,
     "capacity": 16, "description": "Recovery: foam rolling, stretching, mobility."},
]  # fmt: skip

# Weekday (Monday is 0), hour, minute, class, instructor, room. Local time.
TIMETABLE: list[tuple[int, int, int, str, str, str]] = [
    (0, 7, 0, "Spin", "Marta Gil", "Cycle studio"),
    (0, 9, 30, "Aqua Fit", "Jon Price", "Pool"),
    (0, 18, 0, "Yoga Flow", "Lucía Prado", "Studio 1"),
    (0, 19, 0, "Boxing", "Dean Murphy", "Ring"),
    (0, 20, 0, "HIIT", "Marta Gil", "Main floor"),
    (1, 7, 0, "CrossFit", "Raúl Ortega", "Box"),
    (1, 10, 0, "Pilates", "Lucía Prado", "Studio 1"),
    (1, 18, 30, "Spin", "Jon Price", "Cycle studio"),
    (1, 19, 30, "Zumba", "Yesenia Cruz", "Studio 2"),
    (2, 7, 0, "HIIT", "Marta Gil", "Main floor"),
    (2, 9, 30, "Yoga Flow", "Lucía Prado", "Studio 1"),
    (2, 18, 0, "Body Pump", "Raúl Ortega", "Studio 2"),
    (2, 19, 0, "Boxing", "Dean Murphy", "Ring"),
    (3, 7, 0, "Spin", "Marta Gil", "Cycle studio"),
    (3, 10, 0, "Aqua Fit", "Jon Price", "Pool"),
    (3, 18, 30, "Spin", "Jon Price", "Cycle studio"),
    (3, 19, 30, "Yoga Flow", "Lucía Prado", "Studio 1"),
    (3, 20, 30, "Stretch and Mobility", "Lucía Prado", "Studio 1"),
    (4, 7, 0, "CrossFit", "Raúl Ortega", "Box"),
    (4, 12, 0, "Pilates", "Lucía Prado", "Studio 1"),
    (4, 18, 0, "HIIT", "Marta Gil", "Main floor"),
    (4, 19, 0, "Zumba", "Yesenia Cruz", "Studio 2"),
    (5, 9, 0, "Body Pump", "Raúl Ortega", "Studio 2"),
    (5, 10, 30, "Yoga Flow", "Lucía Prado", "Studio 1"),
    (5, 12, 0, "Boxing", "Dean Murphy", "Ring"),
    (6, 10, 0, "Spin", "Jon Price", "Cycle studio"),
    (6, 11, 30, "Stretch and Mobility", "Lucía Prado", "Studio 1"),
]

# Name, price in euro, period.
PLANS: list[tuple[str, str, str]] = [
    ("Unlimited", "59.00", "month"),
    ("Off-peak", "39.00", "month"),
    ("Student", "32.00", "month"),
    ("Unlimited yearly", "590.00", "year"),
]

SOURCES = ["website", "instagram", "referral", "walk-in", "google", "event"]
INTERESTS = ["weight loss", "strength training", "yoga and mobility", "boxing", "group classes", "personal training"]

# The people named in the README and the demonstration messages: always present, always active.
PEOPLE: list[tuple[str, str]] = [
    ("Ana Torres", "es"), ("John Smith", "en"), ("María García López", "es"), ("Emily Clarke", "en"),
    ("Carlos Ruiz Moreno", "es"), ("Sophie Turner", "en"), ("Javier Fernández", "es"), ("Liam O'Brien", "en"),
    ("Lucía Martín Sanz", "es"), ("Olivia Bennett", "en"), ("Pedro Sánchez Gil", "es"), ("Daniel Cooper", "en"),
    ("Elena Navarro", "es"), ("Grace Mitchell", "en"), ("Miguel Ángel Díaz", "es"), ("Hannah Lee", "en"),
    ("Laura Jiménez", "es"), ("Tom Wright", "en"), ("Carmen Vega", "es"), ("James Walker", "en"),
]  # fmt: skip

FIRST_NAMES: list[tuple[str, str]] = [
    *((name, "es") for name in (
        "Alba", "Alejandro", "Andrea", "Antonio", "Beatriz", "Cristina", "David", "Diego", "Eva", "Fernando", "Gloria",
        "Hugo", "Inés", "Isabel", "Jorge", "José", "Julia", "Luis", "Manuel", "Marcos", "Marina", "Mónica", "Natalia",
        "Nuria", "Pablo", "Paula", "Rafael", "Raquel", "Rocío", "Rosa", "Rubén", "Sara", "Sergio", "Silvia", "Sofía",
        "Teresa", "Víctor")),
    *((name, "en") for name in (
        "Aaron", "Alice", "Amelia", "Ben", "Charlotte", "Chloe", "Ella", "Ethan", "Freya", "George", "Harry", "Isla",
        "Jack", "Jessica", "Kate", "Lewis", "Mark", "Mia", "Nathan", "Oscar", "Poppy", "Rachel", "Ryan", "Sam",
        "Victoria", "William", "Zoe")),
]  # fmt: skip

LAST_NAMES: list[tuple[str, str]] = [
    *((name, "es") for name in (
        "Álvarez", "Blanco", "Cano", "Castro", "Delgado", "Domínguez", "Flores", "Gómez", "González", "Herrera",
        "Iglesias", "Lozano", "Marín", "Medina", "Molina", "Morales", "Núñez", "Ortiz", "Peña", "Pérez", "Ramírez",
        "Ramos", "Rivas", "Rojas", "Romero", "Rubio", "Santos", "Serrano", "Soto", "Suárez", "Vázquez")),
    *((name, "en") for name in (
        "Adams", "Baker", "Brown", "Carter", "Davies", "Edwards", "Evans", "Foster", "Green", "Hall", "Harris",
        "Hughes", "Jackson", "Johnson", "King", "Lewis", "Moore", "Morgan", "Parker", "Roberts", "Scott", "Taylor",
        "Thompson", "Ward", "Watson", "White", "Wilson", "Wood", "Young")),
]  # fmt: skip

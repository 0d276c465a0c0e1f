"""How the installation as a whole is doing: for operators, health checks and metrics. Sees no tenant's data."""

"""How often models are called while their providers limit us or are down, shared by all processes of Rota."""

TABLES = ("provider_alerts", "provider_paces")

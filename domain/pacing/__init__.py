"""Paces of model calls while a provider limits us or is down, shared by all processes of Rota."""

TABLES = ("provider_alerts", "provider_paces")

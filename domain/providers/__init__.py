"""Endpoints that serve models: the installation's, from settings, and those that organisations set up themselves."""

TABLES = ("providers",)

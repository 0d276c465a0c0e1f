"""Endpoints that serve models: the installation's, from the settings, and those that organisations set up."""

TABLES = ("providers",)

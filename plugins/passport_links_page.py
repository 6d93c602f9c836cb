"""The only file here that Airflow loads as a plugin: the page "Passport links"."""

from passport_airflow.page import PassportLinksPage

__all__ = ["PassportLinksPage"]

"""The page "Passport links" in Airflow's UI: where it is. ``passport_airflow.page_app`` serves it."""

from functools import cached_property
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

NAME = "Passport links"
PATH = "passport-links"


class PassportLinksPage(AirflowPlugin):
    """Places the page in the navigation, on every DAG and on every run, and serves it."""

    name = "passport_links_page"

    # Relative, so that a sub-path in [api] base_url holds. The UI finds a view by its url_route.
    external_views = [  # noqa: RUF012 - Airflow's own way
        {
            "name": NAME,
            "href": f"{PATH}/{query}",
            "destination": destination,
            "url_route": url_route,
            "icon": f"{PATH}/icon.svg",
            "icon_dark_mode": f"{PATH}/icon-dark.svg",
            **place,
        }
        for destination, url_route, query, place in (
            ("nav", "passport-links", "", {"category": "browse"}),
            ("dag", "passport-links-of-dag", "", {}),
            ("dag_run", "passport-links-of-run", "?dag_id={DAG_ID}&run_id={RUN_ID}", {}),
        )
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The page's app. Only the API server asks for it, but every task's process loads the plugin."""
        from passport_airflow.page_app import page_app

        return [{"app": page_app(), "url_prefix": f"/{PATH}", "name": NAME}]

"""The page "Passport links" in Airflow's UI: which days, campaigns, tags and orders stand where, and what to do next.

Airflow does not authenticate a plugin's routes, so each of ours asks for the right to read the runs of
``reserve_passport_links``: whoever may see those may see the page. It shows no link to anybody.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.plugins_manager import AirflowPlugin

import include.page
from include.business_day import BadDayError, parse_day
from include.page.reading import Asked, read_content
from include.page.rendering import page_html, trouble_html
from include.settings import settings
from include.warehouse.database import SafeDatabaseError
from passport_airflow.connections import warehouse
from passport_airflow.run_day import run_day

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX = "/passport-links"
RESERVE_DAG = "reserve_passport_links"
NAME = "Passport links"
ASSETS_FOLDER = Path(include.page.__file__).parent / "assets"
ASSETS = ("page.css", "icon.svg", "icon-dark.svg")
LONGEST_FILTER = 200
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'self'"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
NOT_MIGRATED = ("3F000", "42P01", "42703")  # the schema, a view or a column is not there

REFUSALS = {
    401: ("You are not logged in", "Log in to Airflow, then open this page again."),
    403: ("You may not see this page", f"It takes the right to read the runs of the DAG {RESERVE_DAG}."),
}


class PassportLinksPage(AirflowPlugin):
    """Serves the page and places it: in the navigation, on every DAG and on every run."""

    name = "passport_links_page"

    # Relative, so that a sub-path in [api] base_url holds. The UI finds a view by its url_route.
    external_views = [  # noqa: RUF012 - Airflow's own way
        {
            "name": NAME,
            "href": f"{PREFIX[1:]}/{query}",
            "destination": destination,
            "url_route": url_route,
            "icon": f"{PREFIX[1:]}/icon.svg",
            "icon_dark_mode": f"{PREFIX[1:]}/icon-dark.svg",
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
        """The page's app; made when the API server asks, since every task's process loads the plugins, too."""
        return [{"app": page_app(), "url_prefix": PREFIX, "name": NAME}]


def page_app() -> "FastAPI":
    """The page and its assets, to be mounted under any path; every route wants a user who may read the DAG's runs.

    The routes are plain functions, so that the database blocks a thread and never the server's event loop.
    """
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException, Request, Response
    from fastapi.responses import FileResponse, HTMLResponse

    may_read = Depends(requires_access_dag("GET", DagAccessEntity.RUN, RESERVE_DAG))
    # No generated documentation: its routes would answer anybody.
    app = FastAPI(dependencies=[may_read], docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> HTMLResponse:
        title, sentence = REFUSALS.get(error.status_code, (str(error.detail), "Go back to the page."))
        return HTMLResponse(trouble_html(title, sentence), error.status_code)

    @app.exception_handler(SafeDatabaseError)
    @app.exception_handler(AirflowFailException)
    async def unreadable(_: Request, error: Exception) -> HTMLResponse:
        # Neither says more than the place: no password, no value of a row.
        sentence = str(error)
        if getattr(error, "sqlstate", None) in NOT_MIGRATED:
            sentence = "It lacks the tables of this version: migrate it with `make migrate`."
        return HTMLResponse(trouble_html("The warehouse cannot be read", sentence), 503)

    @app.get("/")
    def page(
        day: str = "", campaign: str = "", order: str = "", before: str = "", dag_id: str = "", run_id: str = ""
    ) -> HTMLResponse:
        asked, notice = _asked(day, campaign, order, before, dag_id, run_id)
        content = read_content(warehouse(), asked)
        return HTMLResponse(page_html(content, asked, settings().timezone, notice))

    @app.get("/{name}")
    def asset(name: str) -> FileResponse:
        if name not in ASSETS:
            raise HTTPException(404, "There is no such page")
        return FileResponse(ASSETS_FOLDER / name)

    return app


def _asked(day: str, campaign: str, order: str, before: str, dag_id: str, run_id: str) -> tuple[Asked, str]:
    """What the address asks for, and sentences on what of it means nothing."""
    notices: list[str] = []

    def date_of(text: str) -> date | None:
        try:
            return parse_day(text) if text else None
        except BadDayError as error:
            notices.append(f"{error}.")
            return None

    asked = Asked(day=date_of(day), before=date_of(before), campaign=_text(campaign), order=_text(order))
    if run_id and not day:
        try:
            asked = replace(asked, day=_day_of_run(dag_id, run_id))
        except _NoDayError as error:
            notices.append(f"{error}. This shows the newest days.")
    return asked, " ".join(notices)


class _NoDayError(Exception):
    """A run serves no business day."""


def _day_of_run(dag_id: str, run_id: str) -> date:
    """The business day that a run serves, by the same rule as its tasks; raises ``_NoDayError``."""
    # The page is served by the API server, which has Airflow's own tables and no task SDK to ask.
    from airflow.models import DagRun  # noqa: TID251
    from airflow.utils.session import create_session
    from sqlalchemy import select

    if dag_id != RESERVE_DAG:
        message = f"Only runs of {RESERVE_DAG} serve a business day"
        raise _NoDayError(message)
    with create_session(scoped=False) as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None:
            message = f"There is no run {run_id} any more"
            raise _NoDayError(message)
        try:
            return run_day({"dag_run": run, "params": {"day": (run.conf or {}).get("day")}})
        except AirflowFailException as error:
            message = f"The run {run_id} serves no business day: {error}"
            raise _NoDayError(message) from None


def _text(value: str) -> str | None:
    """A filter as PostgreSQL takes it: trimmed, of a sane length, without NUL."""
    return value.replace("\0", "").strip()[:LONGEST_FILTER] or None

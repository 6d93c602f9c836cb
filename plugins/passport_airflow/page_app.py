"""Serves the page "Passport links" to Airflow's API server: its routes, who may call them, and what they cannot show.

Airflow does not authenticate a plugin's routes, so each of ours asks for the right to read the runs of
``reserve_passport_links``: whoever may see those may see the page. It shows no link to anybody.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models import DagRun  # noqa: TID251 - the API server has Airflow's own tables and no task SDK to ask
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from sqlalchemy import select

import include.page
from include.business_day import ONE_DAY, BadDayError, parse_day
from include.page.reading import Asked, read_content
from include.page.rendering import page_html, trouble_html
from include.settings import settings
from include.warehouse.database import SafeDatabaseError
from passport_airflow.connections import warehouse
from passport_airflow.run_day import run_days

RESERVE_DAG = "reserve_passport_links"
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
NOT_MIGRATED = ("3F000", "42P01", "42703")
"""SQLSTATEs of a schema, a table or view, and a column that does not exist."""

REFUSALS = {
    401: ("You are not logged in", "Log in to Airflow, then open this page again."),
    403: ("You may not see this page", f"It needs the right to read the runs of the DAG {RESERVE_DAG}."),
}


def page_app() -> FastAPI:
    """Make the app of the page and its assets; it can be mounted under any path.

    Every route requires a user who may read the runs of the DAG. The routes are plain functions, so that a slow
    database blocks one thread and never the event loop of the server.
    """
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
        # Their texts name the place and hold no password and no value of a row.
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
    """Give what the address asks for, and a sentence for each part that cannot be understood."""
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
            asked = _days_of_run(asked, dag_id, run_id)
        except _NoDayError as error:
            notices.append(f"{error}. This shows the newest days.")
    return asked, " ".join(notices)


class _NoDayError(Exception):
    """The run serves no business day."""


def _days_of_run(asked: Asked, dag_id: str, run_id: str) -> Asked:
    """Ask for the business day that a run serves, or for its last days if it serves several.

    It is the same rule as its tasks have. Raises ``_NoDayError``.
    """
    if dag_id != RESERVE_DAG:
        message = f"Only runs of {RESERVE_DAG} serve a business day"
        raise _NoDayError(message)
    with create_session(scoped=False) as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None:
            message = f"There is no run {run_id} any more"
            raise _NoDayError(message)
        try:
            days = run_days(run, run.conf or {}).days
        except AirflowFailException as error:
            message = f"The run {run_id} serves no business day: {error}"
            raise _NoDayError(message) from None
    if len(days) == 1:
        return replace(asked, day=days[0])
    return replace(asked, before=asked.before or days[-1] + ONE_DAY)


def _text(value: str) -> str | None:
    """Trim a filter, cut it to ``LONGEST_FILTER`` characters, and take out NUL, which PostgreSQL refuses."""
    return value.replace("\0", "").strip()[:LONGEST_FILTER] or None

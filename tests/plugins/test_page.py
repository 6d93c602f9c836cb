"""The page in Airflow's API server: who may see it, what it never shows, and what it says when it cannot be read."""

# Airflow's own tables are what its API server has; a DAG would not touch them.
# ruff: noqa: TID251

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from include.warehouse.publishing import load_links
from tests.builders.ledger_rows import LedgerRows

MONDAY = date(2026, 11, 16)
PAGE = "/airflow/passport-links/"
ROUTES = (PAGE, f"{PAGE}page.css", f"{PAGE}icon.svg", f"{PAGE}icon-dark.svg", f"{PAGE}no-such-thing")


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Airflow's own tables in a database of this module, set up as its API server has them."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(home))
        patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{home / 'airflow.db'}")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a-secret-of-this-test-that-is-long-enough-for-hs512" * 2)
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ada:viewer")
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(home / "passwords.json"))
        patch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
        patch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        from airflow import settings
        from airflow.models import import_all_models
        from airflow.models.base import Base

        settings.dispose_orm()
        settings.configure_vars()
        settings.configure_orm()
        import_all_models()
        assert settings.engine is not None
        Base.metadata.create_all(settings.engine)
        yield home
        settings.dispose_orm()
    settings.configure_vars()
    settings.configure_orm()


@pytest.fixture
def app(airflow_home: Path) -> FastAPI:
    """A server with the page mounted as Airflow mounts it, below a sub-path."""
    from airflow.api_fastapi.app import init_auth_manager

    from passport_airflow.page import PassportLinksPage

    server = FastAPI(root_path="/airflow")
    (served,) = PassportLinksPage().fastapi_apps
    server.mount(served["url_prefix"], served["app"])
    init_auth_manager(server)
    return server


@pytest.fixture
def anonymous(app: FastAPI) -> TestClient:
    return TestClient(app)


def token(role: str | None) -> str:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ada", role=role))


@pytest.fixture
def viewer(app: FastAPI, warehouse: str, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Somebody who is logged in with the least role that may look at DAGs, by the UI's own cookie."""
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse)
    return TestClient(app, cookies={"_token": token("viewer")})


@pytest.fixture
def rows(warehouse: str) -> LedgerRows:
    return LedgerRows(warehouse)


# ---- who may see it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ROUTES)
def test_nobody_sees_anything_without_logging_in(anonymous: TestClient, path: str) -> None:
    answer = anonymous.get(path)

    assert answer.status_code == 401
    assert "Log in to Airflow" in answer.text


@pytest.mark.parametrize("path", ROUTES)
def test_a_forged_session_is_refused(app: FastAPI, path: str) -> None:
    forged = TestClient(app, cookies={"_token": token("admin")[:-4] + "AAAA"})

    assert forged.get(path).status_code == 403


@pytest.mark.parametrize("path", ROUTES)
def test_a_user_without_rights_on_the_dag_is_refused(app: FastAPI, path: str) -> None:
    nobody = TestClient(app, cookies={"_token": token(None)})

    answer = nobody.get(path)

    assert answer.status_code == 403
    assert "reserve_passport_links" in answer.text


def test_a_viewer_sees_the_page_by_cookie_or_by_token(app: FastAPI, viewer: TestClient) -> None:
    by_token = TestClient(app, headers={"Authorization": f"Bearer {token('viewer')}"})

    assert viewer.get(PAGE).status_code == 200
    assert by_token.get(PAGE).status_code == 200
    assert viewer.get(f"{PAGE}page.css").headers["content-type"].startswith("text/css")
    assert viewer.get(f"{PAGE}icon.svg").headers["content-type"].startswith("image/svg+xml")
    assert viewer.get(f"{PAGE}no-such-thing").status_code == 404


def test_every_route_there_is_asks_for_rights(app: FastAPI) -> None:
    page = next(route.app for route in app.routes if getattr(route, "path", "") == "/passport-links")

    assert isinstance(page, FastAPI)
    for route in page.routes:
        assert isinstance(route, APIRoute), f"{route} is served without FastAPI's dependencies"
        assert [known.dependency.__qualname__ for known in route.dependencies] == ["requires_access_dag.<locals>.inner"]


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json"])
def test_there_is_no_generated_documentation(viewer: TestClient, path: str) -> None:
    assert viewer.get(PAGE + path).status_code == 404


@pytest.mark.parametrize("logged_in", [True, False])
@pytest.mark.parametrize("path", ROUTES)
def test_every_answer_forbids_scripts_foreign_frames_and_caches(
    viewer: TestClient, anonymous: TestClient, path: str, logged_in: bool
) -> None:
    headers = (viewer if logged_in else anonymous).get(path).headers

    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'self'"
    )
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


# ---- where it stands -------------------------------------------------------------------------------------------------


def test_it_stands_in_the_navigation_on_dags_and_on_runs(airflow_home: Path) -> None:
    from passport_airflow.page import PassportLinksPage

    views = {view["destination"]: view for view in PassportLinksPage.external_views}

    assert set(views) == {"nav", "dag", "dag_run"}
    assert views["nav"]["category"] == "browse"
    assert views["dag_run"]["href"] == "passport-links/?dag_id={DAG_ID}&run_id={RUN_ID}"
    assert len({view["url_route"] for view in views.values()}) == 3
    assert all(view["href"].startswith("passport-links/") for view in views.values())


def test_every_address_is_relative_so_that_a_sub_path_holds(viewer: TestClient, rows: LedgerRows) -> None:
    rows.order("o1", "gift-11", "held")

    answer = viewer.get(PAGE, params={"order": "o1"})

    assert answer.status_code == 200
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)
    assert len(addresses) > 3
    assert [address for address in addresses if re.match(r"/|[a-z]+:", address)] == []


# ---- what it shows ---------------------------------------------------------------------------------------------------


def test_it_shows_days_campaigns_tags_and_what_needs_attention(viewer: TestClient, rows: LedgerRows) -> None:
    rows.link("o1", "gift-11")
    rows.order("o2", "gift-11", "held")
    rows.tag("gift-11", pool_size=4)
    rows.do("update passport_ops.reservation set business_day = %s", MONDAY)
    load_links(rows.uri, closes=[MONDAY], run_id="run")

    html = viewer.get(PAGE).text

    assert 'aria-label="1 reserved, 1 held"' in html
    assert "2026-11-16" in html
    assert "run resolve_attention" in html
    assert re.search(r"gift-11.*?more than half left.*?>3<", html, re.DOTALL)


def test_it_never_shows_a_link_or_a_passphrase(viewer: TestClient, rows: LedgerRows) -> None:
    certificate = rows.link("o1", "gift-11")
    rows.do("update passport_ops.reservation set business_day = %s", MONDAY)
    load_links(rows.uri, closes=[MONDAY], run_id="run")
    (link,) = rows.one("select link from passport.links where order_key = 'o1'")

    for query in ({}, {"order": "o1"}, {"day": "2026-11-16"}, {"campaign": "gift"}, {"order": link}):
        html = viewer.get(PAGE, params=query).text.replace(f'value="{link}"', "").replace(f">{link}<", "")
        assert "arianee" not in html
        assert link.split(",")[1] not in html
    assert certificate in viewer.get(PAGE, params={"order": "o1"}).text


def test_an_order_is_looked_up(viewer: TestClient, rows: LedgerRows) -> None:
    rows.order("o2", "gift-11", "held")
    rows.do("update passport_ops.reservation set reason = 'an answer nobody could read'")

    html = viewer.get(PAGE, params={"order": " o2 "}).text

    assert "A person must decide: run resolve_attention to release it or to close it." in html
    assert "The ledger says: an answer nobody could read." in html
    assert "No order has this key or id." in viewer.get(PAGE, params={"order": "o3"}).text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"day": "yesterday"}, "&#39;yesterday&#39; is not a day; write it as YYYY-MM-DD"),
        ({"before": "2026-13-01"}, "&#39;2026-13-01&#39; is not a day; write it as YYYY-MM-DD"),
        ({"order": "\0"}, "No order has been served yet"),
        ({"order": "x" * 50_000}, "No order has this key or id."),
        ({"campaign": "'; drop schema passport; --"}, "No order has been served yet"),
        ({"order": "<script>alert(1)</script>"}, "&lt;script&gt;alert(1)&lt;/script&gt;"),
    ],
)
def test_a_filter_that_means_nothing_is_said_and_harms_nothing(
    viewer: TestClient, query: dict[str, str], said: str
) -> None:
    answer = viewer.get(PAGE, params=query)

    assert answer.status_code == 200
    assert said in answer.text
    assert "<script" not in answer.text


# ---- the day of a run ------------------------------------------------------------------------------------------------


def dag_run(run_id: str, dag_id: str = "reserve_passport_links", **fields: Any) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(DagRun(dag_id=dag_id, run_id=run_id, run_after=datetime(2026, 11, 18, 9, tzinfo=UTC), **fields))


def days_shown(viewer: TestClient, run_id: str, dag_id: str = "reserve_passport_links") -> tuple[str, str]:
    """The day in the filter, and the sentence at the top of the page that Airflow's run page shows."""
    from passport_airflow.page import PassportLinksPage

    view = next(view for view in PassportLinksPage.external_views if view["destination"] == "dag_run")
    href = view["href"].replace("{DAG_ID}", quote(dag_id)).replace("{RUN_ID}", quote(run_id, safe=""))
    html = viewer.get(f"/airflow/{href}").text
    day = re.search(r'name="day" value="([^"]*)"', html)
    notice = re.search(r'<p class="notice" role="status">([^<]*)<', html)
    assert day is not None
    return day[1], notice[1] if notice else ""


def test_a_run_by_hand_shows_the_day_it_was_asked_for(viewer: TestClient) -> None:
    dag_run("manual__1+00:00", run_type="manual", conf={"day": "2026-11-09"})

    assert days_shown(viewer, "manual__1+00:00") == ("2026-11-09", "")


def test_a_run_by_hand_without_a_day_shows_the_last_one_that_had_ended(viewer: TestClient) -> None:
    dag_run("manual__2", run_type="manual")

    assert days_shown(viewer, "manual__2") == ("2026-11-17", "")


def test_a_scheduled_run_shows_the_day_its_interval_began_with(viewer: TestClient) -> None:
    interval = (datetime(2026, 11, 12, tzinfo=UTC), datetime(2026, 11, 13, tzinfo=UTC))
    dag_run("scheduled__1", run_type="scheduled", logical_date=interval[0], data_interval=interval)

    assert days_shown(viewer, "scheduled__1") == ("2026-11-12", "")


def test_a_run_that_serves_no_day_shows_the_newest_days_and_says_why(viewer: TestClient) -> None:
    dag_run("manual__3", run_type="manual", conf={"day": "soon"})

    assert days_shown(viewer, "gone") == ("", "There is no run gone any more. This shows the newest days.")
    assert days_shown(viewer, "any", dag_id="another_dag") == (
        "",
        "Only runs of reserve_passport_links serve a business day. This shows the newest days.",
    )
    assert days_shown(viewer, "manual__3")[0] == ""
    assert "is not a day" in days_shown(viewer, "manual__3")[1]


# ---- the warehouse ---------------------------------------------------------------------------------------------------


def test_a_connection_made_in_the_ui_works_as_one_from_the_environment_does(
    viewer: TestClient, warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE")
    assert viewer.get(PAGE).status_code == 503
    with create_session() as session:
        session.add(Connection(conn_id="warehouse", uri=warehouse))
    try:
        assert viewer.get(PAGE).status_code == 200
    finally:
        with create_session() as session:
            session.query(Connection).delete()


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("postgresql://ada:hush-hush@127.0.0.1:1/warehouse", "No connection to the PostgreSQL database warehouse at"),
        ("mysql://ada:hush-hush@127.0.0.1/warehouse", "must be a PostgreSQL connection"),
        ("", "is missing or cannot be parsed: add it in Airflow under Admin, Connections"),
    ],
)
def test_a_warehouse_out_of_reach_is_one_sentence(
    viewer: TestClient, monkeypatch: pytest.MonkeyPatch, connection: str, said: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", connection)

    answer = viewer.get(PAGE)

    assert answer.status_code == 503
    assert said in answer.text
    assert "hush-hush" not in answer.text
    assert "Traceback" not in answer.text


def test_a_warehouse_that_was_not_migrated_says_how(
    viewer: TestClient, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database)

    answer = viewer.get(PAGE)

    assert answer.status_code == 503
    assert "make migrate" in answer.text

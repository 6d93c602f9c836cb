"""The page in a real browser, inside a real Airflow below a sub-path, as a user who logged in by the form."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, FrameLocator, Page, expect, sync_playwright

from include.warehouse.migrate import migrate
from include.warehouse.publishing import load_links
from local.processes import wait_until
from local.stack import HOST, WAREHOUSE_DATABASE, Ports, Stack
from tests.builders.ledger_rows import LedgerRows

USER, PASSWORD = "ada", "a password of this test"
DAG = "reserve_passport_links"
DAY = date(2026, 11, 16)
SECONDS = 30_000  # Playwright counts in milliseconds

# Every text on the page against the nearest opaque background: WCAG 2.2, 1.4.3.
CONTRASTS = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = rgb(getComputedStyle(e).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.tagName === 'INPUT';
    if (!own || e.closest('.hidden, svg, datalist')) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(e).color)), luminance(background(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push([e.tagName, e.className, e.textContent.trim().slice(0, 30), ratio.toFixed(2)]);
  }
  return poor;
}
"""


@dataclass
class Site:
    """A running Airflow with a scene in its warehouse."""

    url: str
    run_id: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the machine."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on this machine: install the package chromium to run the browser tests")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--headless"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Airflow's API server below /airflow, where people log in; the DAGs are parsed, nothing is scheduled."""
    folder = tmp_path_factory.mktemp("browser")
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({USER: PASSWORD}))
    ports = Ports.free()
    url = f"http://{HOST}:{ports.ui}/airflow"
    environment = {
        "AIRFLOW_CONN_WAREHOUSE": "",  # made in Airflow instead, as people do it in the UI
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    with Stack(folder / "state", ports, environment=environment) as stack:
        stack.start_databases()
        migrate(stack.warehouse)
        _set_scene(LedgerRows(stack.warehouse))
        stack.migrate_airflow()
        stack.start_airflow_server()
        yield Site(url, _prepare_airflow(url, stack.postgres.uri(WAREHOUSE_DATABASE)))


def _set_scene(rows: LedgerRows) -> None:
    for number in range(12):
        rows.link(f"demo-{number:03}", "demo-watches-2026-11", campaign="watches")
    rows.order("demo-held", "demo-watches-2026-11", "held", campaign="watches")
    rows.order("demo-empty", "demo-gift", "out_of_stock", campaign="a-campaign-with-quite-a-long-name")
    rows.tag("demo-watches-2026-11", pool_size=13)
    rows.do("update passport_ops.reservation set business_day = %s", DAY)
    rows.read(DAY)
    load_links(rows.uri, closes=[DAY], run_id="manual__demo")


def _prepare_airflow(url: str, warehouse: str) -> str:
    """Make the connection, and a run of the scene's day that nothing will carry out; gives its id."""
    place = urlsplit(warehouse)
    connection = {
        "connection_id": "warehouse",
        "conn_type": "postgres",
        "host": place.hostname,
        "port": place.port,
        "login": place.username,
        "password": place.password,
        "schema": place.path[1:],
    }
    with requests.Session() as session:
        session.trust_env = False
        token = session.post(f"{url}/auth/token", json={"username": USER, "password": PASSWORD}, timeout=30).json()
        session.headers["Authorization"] = f"Bearer {token['access_token']}"
        session.post(f"{url}/api/v2/connections", json=connection, timeout=30).raise_for_status()
        assert wait_until(lambda: session.get(f"{url}/api/v2/dags/{DAG}", timeout=30).ok, 120)
        body = {"logical_date": None, "conf": {"day": DAY.isoformat()}}
        answer = session.post(f"{url}/api/v2/dags/{DAG}/dagRuns", json=body, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["dag_run_id"])


@dataclass
class Visit:
    """A logged-in browser page, and what it complained about or asked elsewhere."""

    page: Page
    complaints: list[str]
    url: str

    def open(self, path: str) -> FrameLocator:
        """Open a path of Airflow's UI; gives the frame with our page."""
        self.page.goto(self.url + path)
        return self.frame

    @property
    def frame(self) -> FrameLocator:
        return self.page.frame_locator("iframe[title='Passport links']")


def _visit(browser: Browser, site: Site, **context: Any) -> Iterator[Visit]:
    page = browser.new_page(**context)
    page.set_default_timeout(SECONDS)
    complaints: list[str] = []
    own = (site.url, "blob:", "data:")  # the last two are made by Airflow's own scripts, and stay in the browser
    page.on(
        "request", lambda request: None if request.url.startswith(own) else complaints.append(f"asked {request.url}")
    )
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{site.url}/")
    page.locator("input[name=username]").fill(USER)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("button[type=submit]").click()
    page.get_by_role("button", name="Browse").wait_for()
    complaints.clear()  # what Airflow's own start says before anybody is logged in
    yield Visit(page, complaints, site.url)
    page.close()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    yield from _visit(browser, site)


def test_the_menu_leads_to_the_page_and_the_page_asks_nobody_else(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Browse").click()
    visit.page.get_by_role("menuitem", name="Passport links").click()

    expect(visit.frame.get_by_role("heading", name="Passport links")).to_be_visible()
    expect(visit.frame.get_by_role("row", name="2026-11-16 Mon 14 12 2")).to_be_visible()
    expect(visit.frame.get_by_role("img", name="12 reserved, 1 out of stock, 1 held")).to_be_visible()
    assert visit.complaints == []


def test_the_dag_has_the_page_as_a_tab(visit: Visit) -> None:
    visit.page.goto(f"{visit.url}/dags/{DAG}")
    visit.page.get_by_role("link", name="Passport links").click()

    expect(visit.frame.get_by_role("heading", name="Newest days")).to_be_visible()


def test_a_run_s_tab_shows_the_day_of_that_run(visit: Visit, site: Site) -> None:
    visit.page.goto(f"{visit.url}/dags/{DAG}/runs/{site.run_id}")
    visit.page.get_by_role("link", name="Passport links").click()

    expect(visit.frame.get_by_label("Business day")).to_have_value("2026-11-16")
    expect(visit.frame.get_by_role("heading", name="This day")).to_be_visible()


def test_an_order_is_looked_up_and_its_day_is_one_click_further(visit: Visit) -> None:
    frame = visit.open("/plugin/passport-links")

    frame.get_by_label("Order key or order id").fill("demo-held")
    frame.get_by_role("button", name="Show").click()
    found = frame.get_by_role("region", name="Order demo-held").first
    expect(found).to_contain_text("A person must decide: run resolve_attention")

    found.get_by_role("link", name="2026-11-16").click()
    expect(frame.get_by_label("Business day")).to_have_value("2026-11-16")
    expect(frame.get_by_label("Order key or order id")).to_have_value("")
    assert visit.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_in_the_theme_that_airflow_is_in(browser: Browser, site: Site, theme: str) -> None:
    # "null" is what a browser does by itself: a frame takes its colour scheme from the page around it.
    for visit in _visit(browser, site, color_scheme="null"):
        visit.page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        frame = visit.open("/plugin/passport-links/airflow/passport-links/?order=demo-held")
        body = frame.locator("body")
        expect(frame.get_by_role("heading", name="Order demo-held")).to_be_visible()
        expect(body).not_to_have_css("background-color", "rgba(0, 0, 0, 0)")  # the stylesheet is there

        assert body.evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches") == (theme == "dark")
        assert body.evaluate(CONTRASTS) == []


@pytest.mark.parametrize("width", [320, 768, 1920])
def test_the_page_fits_narrow_and_wide_windows(browser: Browser, site: Site, width: int) -> None:
    for visit in _visit(browser, site):
        visit.page.set_viewport_size({"width": width, "height": 800})
        visit.page.goto(f"{visit.url}/passport-links/?order=demo-held")

        assert visit.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_tables_and_fields_say_what_they_are(visit: Visit) -> None:
    visit.page.goto(f"{visit.url}/passport-links/?order=demo-held")

    assert visit.page.locator("table").count() == 5
    assert visit.page.locator("table:not(:has(caption))").count() == 0
    assert visit.page.locator("th:not([scope])").count() == 0
    assert visit.page.locator("input").evaluate_all("fields => fields.filter(f => !f.labels.length).length") == 0
    assert visit.page.locator("svg[role=img]:not([aria-label])").count() == 0
    assert visit.page.locator("html[lang]").count() == 1


def test_a_browser_without_a_session_is_told_to_log_in(browser: Browser, site: Site) -> None:
    page = browser.new_page()

    answer = page.goto(f"{site.url}/passport-links/")

    assert answer is not None
    assert answer.status == 401
    expect(page.get_by_role("heading", name="You are not logged in")).to_be_visible()
    page.close()

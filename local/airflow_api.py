"""Airflow's REST API as far as the local stack, the tests and the chaos run need it.

Written against the ``/api/v2`` of Airflow 3.3 with the simple auth manager in its all-admins mode, where
``GET /auth/token`` gives a token to everybody: for a loopback address only.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from local.processes import LocalStackError

Json = dict[str, Any]
Found = TypeVar("Found")
ENDED = ("success", "failed")
POLL_SECONDS = 0.25
PAGE = 100


class AirflowApi:
    """A client for the Airflow at ``base_url`` (``http://127.0.0.1:8080``).

    Methods raise ``requests.HTTPError`` for an error as answer and ``LocalStackError`` when a wait takes too long.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy does not reach the loopback address

    # ---- requests ----------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Send one request below ``/api/v2`` and return the decoded answer (``None`` if it is empty)."""
        url = f"{self.base_url}/api/v2{path}"
        if "Authorization" not in self._session.headers:
            self._log_in()
        answer = self._session.request(method, url, json=json, params=params, timeout=30)
        if answer.status_code == requests.codes.unauthorized:
            self._log_in()
            answer = self._session.request(method, url, json=json, params=params, timeout=30)
        if not answer.ok:
            message = f"{method} {path}: {answer.status_code} {answer.text[:500]}"
            raise requests.HTTPError(message, response=answer)
        return answer.json() if answer.content else None

    def page(self, path: str) -> bytes:
        """Get the body of a page of the UI or a plugin, whatever its status, as a logged-in user."""
        self.get("/version")  # logs in, or again
        return self._session.get(f"{self.base_url}{path}", timeout=30).content

    def get(self, path: str, **params: Any) -> Any:
        """GET below ``/api/v2``."""
        return self.call("GET", path, params=params)

    def pages(self, path: str, key: str, **params: Any) -> list[Json]:
        """List all rows under ``key`` of a paged answer."""
        rows: list[Json] = []
        while True:
            page = self.get(path, limit=PAGE, offset=len(rows), **params)
            rows += page[key]
            if not page[key] or len(rows) >= page["total_entries"]:
                return rows

    def _log_in(self) -> None:
        answer = self._session.get(f"{self.base_url}/auth/token", timeout=30)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    # ---- the server --------------------------------------------------------------------------------------------

    def health(self) -> Json | None:
        """Get the health page; ``None`` while there is no answer."""
        try:
            answer = self._session.get(f"{self.base_url}/api/v2/monitor/health", timeout=5)
        except requests.RequestException:
            return None
        return answer.json() if answer.ok else None

    def is_healthy(self, *parts: str) -> bool:
        """Say whether the metadata database and the named parts (``scheduler``, ``triggerer``…) are healthy."""
        health = self.health() or {}
        return all(health.get(part, {}).get("status") == "healthy" for part in ("metadatabase", *parts))

    def import_errors(self) -> list[Json]:
        """List the DAG files that could not be parsed."""
        return self.pages("/importErrors", "import_errors")

    # ---- DAGs --------------------------------------------------------------------------------------------------

    def dags(self) -> list[Json]:
        """List the active DAGs."""
        return self.pages("/dags", "dags")

    def dag(self, dag_id: str) -> Json:
        """Get one DAG."""
        return dict(self.get(f"/dags/{dag_id}"))

    def wait_for_dags(self, dag_ids: Sequence[str], seconds: float = 120) -> None:
        """Wait until all of them are parsed; raises at once if a file cannot be parsed."""

        def parsed() -> bool:
            if errors := self.import_errors():
                first = errors[0]
                reason = first["stack_trace"].strip().splitlines()[-1]
                message = f"the DAG file {first['filename']} cannot be parsed: {reason}"
                raise LocalStackError(message)
            return set(dag_ids) <= {dag["dag_id"] for dag in self.dags()}

        self._wait(parsed, seconds, f"Airflow has not parsed the DAGs {', '.join(dag_ids)}")

    def pause(self, dag_id: str, paused: bool = True) -> None:
        """Pause a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": paused}, params={"update_mask": "is_paused"})

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG."""
        self.pause(dag_id, False)

    # ---- runs --------------------------------------------------------------------------------------------------

    def trigger(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        logical_date: str | None = None,
    ) -> str:
        """Start a manual run (without a logical date by default) and return its run id."""
        body: Json = {"logical_date": logical_date, "conf": dict(conf or {})}
        if run_id:
            body["dag_run_id"] = run_id
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag_id: str, **params: Any) -> list[Json]:
        """List the runs of a DAG, by parameters of the API (``state=["running"]``, ``order_by="-run_after"``)."""
        return self.pages(f"/dags/{dag_id}/dagRuns", "dag_runs", **params)

    def run(self, dag_id: str, run_id: str) -> Json:
        """Get one run."""
        return dict(self.get(f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}"))

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        seconds: float = 600,
        *,
        states: Sequence[str] = ENDED,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Json:
        """Wait until the run is in one of ``states`` and return it; ``meanwhile`` is called before each look."""

        def ended() -> Json | None:
            meanwhile()
            run = self.run(dag_id, run_id)
            return run if run["state"] in states else None

        return self._wait(ended, seconds, f"the run {run_id} of {dag_id} has not come to {' or '.join(states)}")

    def tasks(self, dag_id: str, run_id: str, **params: Any) -> list[Json]:
        """List the task instances of a run, mapped ones one by one."""
        return self.pages(f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances", "task_instances", **params)

    def clear_run(self, dag_id: str, run_id: str, *, only_failed: bool = False) -> None:
        """Clear a whole run, so that it runs again."""
        self.call(
            "POST",
            f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/clear",
            json={"dry_run": False, "only_failed": only_failed},
        )

    def clear_tasks(self, dag_id: str, run_id: str, task_ids: Sequence[str | tuple[str, int]], **options: Any) -> None:
        """Clear tasks of a run; a mapped one is ``(task_id, map_index)``. Options as in the API's own body."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [list(task) if isinstance(task, tuple) else task for task in task_ids],
            "only_failed": False,
            "reset_dag_runs": True,
            **options,
        }
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Get the log of one try of a task as text, as the UI shows it."""
        answer = self.get(
            f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/logs/{try_number}",
            map_index=map_index,
            full_content=True,
        )
        content = answer["content"]
        return "\n".join(str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content)

    def xcoms(self, dag_id: str, run_id: str, task_id: str = "~") -> list[Json]:
        """List the XComs of a run with their values."""
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/xcomEntries"
        entries = self.pages(path, "xcom_entries")
        return [
            self.get(
                f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{entry['task_id']}/xcomEntries/{entry['key']}",
                map_index=entry["map_index"],
            )
            for entry in entries
        ]

    # ---- backfills ---------------------------------------------------------------------------------------------

    def backfill(
        self, dag_id: str, first: str, last: str, *, reprocess: str = "none", max_active_runs: int = 10, **options: Any
    ) -> int:
        """Start a backfill from ``first`` to ``last`` (ISO instants, inclusive) and return its id.

        ``reprocess`` is the UI's choice: ``none`` (missing), ``failed`` (missing and errored), ``completed`` (all).
        """
        body = {
            "dag_id": dag_id,
            "from_date": first,
            "to_date": last,
            "reprocess_behavior": reprocess,
            "max_active_runs": max_active_runs,
            **options,
        }
        return int(self.call("POST", "/backfills", json=body)["id"])

    def wait_for_backfill(self, backfill_id: int, seconds: float = 600) -> Json:
        """Wait until a backfill has ended and return it."""

        def ended() -> Json | None:
            backfill = dict(self.get(f"/backfills/{backfill_id}"))
            return backfill if backfill["completed_at"] else None

        return self._wait(ended, seconds, f"backfill {backfill_id} has not ended")

    @staticmethod
    def _wait(look: Callable[[], Found | None], seconds: float, otherwise: str) -> Found:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := look():
                    return found
            except requests.ConnectionError:
                pass  # the server is being started, or killed by a test
            if time.monotonic() > deadline:
                message = f"{otherwise} after {seconds:g} seconds"
                raise LocalStackError(message)
            time.sleep(POLL_SECONDS)


def _quoted(run_id: str) -> str:
    return quote(run_id, safe="")

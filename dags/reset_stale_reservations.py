"""
### Take back what nobody claimed

Reads from the NMP which passports were claimed, plans which tags may be reset, resets them and publishes what changed.

**When.** After every daily run of `reserve_passport_links`, or by hand. One run at a time.

**A reset is by tag, all or nothing**, and old links may go on working after it. So a tag is reset only when none of
its unclaimed links is younger than its campaign's `stale_after` (the longest, where campaigns share a tag), counted
from `distributed_at` or else from the reservation. And only where its campaigns say `reset: when_stale` in the campaign
file: without a policy a reset is planned and shown, not done, except against the sandbox (the connection `nmp` has
`"sandbox": true` in its extra). `dry_run: true` changes nothing anywhere.

**Tasks.** `sync_claims` reads the claims of every tag with links out. `plan_resets` says of each tag in its log: reset,
or what blocks it, how many links, the youngest order, and when it will be free. `reset_tag` is mapped, one task per
tag; it waits until no call for the tag is under way. `publish_resets` updates `passport.links`, whatever failed before.

**When it fails**, correct the cause and clear the failed task:

| what you see | what to do |
|---|---|
| claims could not be read | 401, 403: the API key lacks the right `certRead`; correct connection `nmp`, clear the run |
| was not reset and is open again | correct what the log names, then clear `reset_tag`, or wait for the next run |
| may or may not be reset | the NMP's answers were lost; no order gets a link of the tag until you clear `reset_tag` |
| the warehouse went back in time | it was restored from a backup: follow `docs/recovery.md` |
| a recovery is open | end it with `make recover`, then clear the run |
| another process is resetting it | wait for it, then clear `reset_tag`: it continues where that stopped |

The next run finds and finishes a tag that a killed task left closed. Every reset is in `passport_ops.tag_reset`, with
the NMP's count.
"""

import logging
from contextlib import closing
from datetime import datetime, timedelta
from typing import Unpack

from airflow.sdk import Context, Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

import passport_airflow  # noqa: F401 - first: it says what to do when another package is called include
from include.campaigns import Campaigns
from include.claims import syncing as claims
from include.ledger.runs import RunLedger
from include.recovery.recovering import require_none_open
from include.resets import planning, resetting
from include.settings import settings
from include.warehouse.publishing import load_links
from passport_airflow.connections import nmp_is_sandbox, warehouse
from passport_airflow.failed_tasks import failed_tasks
from passport_airflow.grant_memory import refuse_if_went_back
from passport_airflow.nmp_hook import NmpHook
from passport_airflow.task_defaults import task_defaults

log = logging.getLogger(__name__)

CAMPAIGNS = Campaigns.load(settings().campaigns_file).listed
DRY_RUN = {"auto": None, "true": True, "false": False}
MOST_TAGS = 1000  # Airflow maps no more than 1024 tasks; the rest is for the next run
PARAMS = {
    "dry_run": Param(
        "auto",
        enum=list(DRY_RUN),
        title="Dry run",
        description="auto: reset where the campaigns say reset: when_stale, or against the sandbox. true: only plan.",
    ),
    "tags": Param([], type="array", items={"type": "string"}, title="Tags", description="Only these tags. Empty: all."),
}


def _refuse_after_a_restore() -> None:
    """Fail while the ledger may not know the youngest links."""
    with RunLedger(warehouse()) as ledger:
        refuse_if_went_back(ledger)
    require_none_open(warehouse())


@task
def sync_claims(**context: Unpack[Context]) -> str:
    """Read the claims of every tag with links out; give when it began, by the database's clock, as ISO text."""
    _refuse_after_a_restore()
    tags: list[str] = context["params"]["tags"]
    with closing(NmpHook().client()) as nmp:
        sync = claims.sync_claims(warehouse(), nmp, run_id=context["dag_run"].run_id, tags=tags)
    log.info("The claims of %d tags were read", len(sync.tags))
    return sync.since.isoformat()


@task
def plan_resets(synced_since: str, **context: Unpack[Context]) -> list[str]:
    """Say of each tag what will become of it and why; give the tags to reset."""
    params = context["params"]
    plans = planning.plan_resets(
        warehouse(),
        CAMPAIGNS,
        run_id=context["dag_run"].run_id,
        synced_since=datetime.fromisoformat(synced_since),
        tags=params["tags"],
        dry_run=DRY_RUN[params["dry_run"]],
        sandbox=nmp_is_sandbox(),
    )
    for planned in plans:
        log.info("%s", planned)
    wanted = [planned.tag for planned in plans if planned.is_wanted]
    log.info("%d of %d tags with unclaimed links are to be reset", len(wanted), len(plans))
    return wanted[:MOST_TAGS]


@task(map_index_template="{{ task.op_kwargs['tag'] }}", execution_timeout=timedelta(minutes=30))
def reset_tag(tag: str, synced_since: str, **context: Unpack[Context]) -> str:
    """Reset one tag, or continue a reset that was interrupted; give what became of it, in words."""
    _refuse_after_a_restore()
    with closing(NmpHook().client()) as nmp:
        done = resetting.reset_tag(
            warehouse(),
            nmp,
            tag,
            run_id=context["dag_run"].run_id,
            campaigns=CAMPAIGNS,
            synced_since=datetime.fromisoformat(synced_since),
        )
    return f"{tag}: {done}"


@task(trigger_rule="all_done")
def publish_resets(**context: Unpack[Context]) -> None:
    """Publish what changed in the ledger, whatever failed before; then fail if anything did."""
    load_links(warehouse(), run_id=context["dag_run"].run_id)
    failed = failed_tasks(context, ["sync_claims", "plan_resets", "reset_tag"])
    if failed:
        message = f"{', '.join(sorted(failed))} failed: read its log, correct the cause, clear it"
        raise AirflowFailException(message)


@dag(
    schedule=None,
    max_active_runs=1,
    params=PARAMS,
    doc_md=__doc__,
    tags=["passport-links"],
    default_args=task_defaults(timedelta(hours=1)),
)
def reset_stale_reservations() -> None:
    """Connect the tasks of a reset: sync, plan, reset, publish."""
    synced_since = sync_claims()
    stale_tags = plan_resets(synced_since)  # type: ignore[arg-type]  # the task itself gets the text
    reset_tag.partial(synced_since=synced_since).expand(tag=stale_tags) >> publish_resets()


reset_stale_reservations()

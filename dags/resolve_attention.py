"""
### Decide about an order that waits for a person

An order is `held` or `unknown` when no program can know whether its call consumed a passport, or when what came back
cannot be used. `passport.needs_attention` lists them with the reason.

**When.** By hand, for one order: *Trigger*, then fill in the form.

* `release`: the order waits for a link again; the next run, or a clear of its day's run, asks for it. A passport that
  an unseen answer consumed stays lost until its tag is reset.
* `close`: the order gets no link. Raw answers that were kept of its calls are erased.

The decision, its reason and who triggered the run are kept in `passport_ops.decision`. Doing it twice changes nothing.

**When it fails**, the log says why in one sentence: the order is not known, or needs no person, and what to do instead.
"""

import logging
from datetime import timedelta

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

from include.attention.deciding import Action, AttentionError, resolve
from include.settings import settings
from include.warehouse.database import open_session
from passport_airflow.connections import warehouse

log = logging.getLogger(__name__)

PARAMS = {
    "order_key": Param(
        type="string", minLength=1, title="Order key", description="As it stands in passport.needs_attention."
    ),
    "action": Param(
        enum=[action.value for action in Action],
        title="Action",
        description="release: ask for a link again. close: this order gets no link.",
    ),
    "reason": Param(
        type="string",
        # kept in clear, here and in the ledger, so never a link
        pattern=r"^(?!.*://).*\S.*$",
        title="Reason",
        description="Why, in your words; it is kept with the decision. Never paste a link.",
    ),
}


@task
def resolve_order(params=None, dag_run=None) -> str:
    """Carries out the person's decision; gives what became of the order."""
    try:
        with open_session(warehouse()) as connection:
            decided = resolve(
                connection,
                params["order_key"],
                Action(params["action"]),
                params["reason"],
                getattr(dag_run, "triggering_user_name", None),
            )
    except AttentionError as error:
        raise AirflowFailException(str(error)) from None
    again = " (decided before, nothing changed)" if decided.again else ""
    return f"order {decided.order_key}: from {decided.from_state} to {decided.to_state}{again}"


@dag(
    schedule=None,
    params=PARAMS,
    doc_md=__doc__,
    tags=["passport-links"],
    default_args={
        "owner": "passport-links",
        "retries": 2,
        "retry_delay": timedelta(seconds=settings().retry_delay_seconds),
        "execution_timeout": timedelta(minutes=5),
    },
)
def resolve_attention():
    """Wires the decision: one task."""
    resolve_order()


resolve_attention()

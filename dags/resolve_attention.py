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

from datetime import timedelta
from typing import Unpack

from airflow.sdk import Context, Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

import passport_airflow  # noqa: F401 - first: it says what to do when another package is called include
from include.attention.deciding import Action, AttentionError, resolve
from include.warehouse.database import open_session
from passport_airflow.connections import warehouse
from passport_airflow.task_defaults import task_defaults

PARAMS = {
    "order_key": Param(
        type="string", minLength=1, title="Order key", description="As passport.needs_attention has it."
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
def resolve_order(**context: Unpack[Context]) -> str:
    """Carry out the person's decision; give what became of the order, in words."""
    params = context["params"]
    try:
        with open_session(warehouse()) as connection:
            decided = resolve(
                connection,
                params["order_key"],
                Action(params["action"]),
                params["reason"],
                context["dag_run"].triggering_user_name,
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
    default_args=task_defaults(timedelta(minutes=5)),
)
def resolve_attention() -> None:
    """Connect the decision's one task."""
    resolve_order()


resolve_attention()

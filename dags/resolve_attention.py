"""
### Decide about what waits for a person

`passport.needs_attention` lists what waits for a person, why, and what to do. This DAG carries the decision out.

**When.** By hand: *Trigger*, then fill in the form.

* `release`: the orders wait for a link again; the next run, or a clear of their day's run, asks for it. A passport that
  an unseen answer consumed stays lost until its tag is reset. For `held` and `unknown` orders.
* `close`: the orders get no link. Raw answers that were kept of their calls are erased. For `held`, `unknown`,
  `pending` and `out_of_stock` orders, `not_carried` ones among them.
* `acknowledge`: a line about anything else, like `rejected`, `run_stopped` or `claimed_twice`, is seen and needs
  nothing more. If it happens again, it is shown again.

**One order, or a list.** Fill in *Keys*, one a line. Orders that need no person are left alone; the log says why.

**Many.** Leave *Keys* empty and choose *Kind*, and *Campaign*, *Business day* or *Tag* if only some are meant.

1. Trigger it with *At most* 0: nothing changes. The log says how many orders there are, of which state, campaign and
   day, with the first keys of each.
2. Trigger it again with *At most* that number. If there are more by then, nothing changes.

**To acknowledge** choose *Kind*. *Keys* are then the values of `subject` in `passport.needs_attention`; without keys it
takes all lines of the kind that fit, in the two steps above.

Each decision, its reason and who triggered the run are kept: `passport.attention_history` shows them. Doing it twice
changes nothing. Many orders are decided in groups of 1000; if the task fails between two groups, its next try goes on
with the rest.

**When it fails**, the log says why in one sentence: the order is not known or needs no person, or there are more than
*At most*, and what to do instead.
"""

from datetime import date, timedelta
from typing import Unpack

from airflow.sdk import Context, Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

import passport_airflow  # noqa: F401 - first: it says what to do when another package is called include
from include.attention.deciding import AttentionError, Decision, carry_out
from include.attention.kinds import ACTIONS, Action, AttentionKind
from include.warehouse.database import open_session
from passport_airflow.connections import warehouse
from passport_airflow.task_defaults import task_defaults

PARAMS = {
    "keys": Param(
        [],
        type=["null", "array"],
        items={"type": "string"},
        title="Keys",
        description="Order keys, one a line. To acknowledge: subjects of the kind. Empty: all of the kind.",
    ),
    "action": Param(
        enum=[action.value for action in Action],
        title="Action",
        description="release: ask for a link again. close: get no link. acknowledge: seen, nothing more to do.",
    ),
    "reason": Param(
        type="string",
        # kept in clear, here and in the ledger, so never a link
        pattern=r"^(?!.*://).*\S.*$",
        title="Reason",
        description="Why, in your words; it is kept with the decision. Never paste a link.",
    ),
    "kind": Param(
        None,
        type=["null", "string"],
        enum=[None, *(kind.value for kind, actions in ACTIONS.items() if actions)],
        title="Kind",
        description="Instead of order keys: all of this kind in passport.needs_attention that fit the three filters.",
    ),
    "campaign": Param(
        None,
        type=["null", "string"],
        title="Campaign",
        description="Of a kind: only orders of this campaign.",
    ),
    "day": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Business day",
        description="Of a kind: only this day, as YYYY-MM-DD.",
    ),
    "tag": Param(
        None,
        type=["null", "string"],
        title="Tag",
        description="Of a kind: only this NMP tag.",
    ),
    "at_most": Param(
        0,
        type="integer",
        minimum=0,
        title="At most",
        description="Of a kind: change nothing if more fit. 0: change nothing, only count and show them.",
    ),
}


@task
def resolve(**context: Unpack[Context]) -> str:
    """Carry out the person's decision; give what became of it, in words."""
    params = context["params"]
    decision = Decision(
        action=Action(params["action"]),
        reason=params["reason"],
        keys=tuple(params["keys"] or ()),
        kind=AttentionKind(params["kind"]) if params["kind"] else None,
        campaign=params["campaign"],
        day=date.fromisoformat(params["day"]) if params["day"] else None,
        tag=params["tag"],
        at_most=params["at_most"],
        decided_by=context["dag_run"].triggering_user_name,
    )
    try:
        with open_session(warehouse()) as connection:
            return carry_out(connection, decision)
    except AttentionError as error:
        raise AirflowFailException(str(error)) from None


@dag(
    schedule=None,
    params=PARAMS,
    doc_md=__doc__,
    tags=["passport-links"],
    default_args=task_defaults(timedelta(minutes=30)),
)
def resolve_attention() -> None:
    """Connect the decision's one task."""
    resolve()


resolve_attention()

"""Which errors of a task are worth another try."""

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from include.campaigns import UnknownCampaignError
from include.day_check import DayNotServedError, OrdersNeedAttentionError, OrdersNotServedError
from include.ledger.going_back import WentBackError
from include.ledger.session import LedgerError
from include.nmp.errors import NmpConfigurationError
from include.orders import ExtractionError
from include.settings import settings

RETRY_BY_CLASS = ExceptionRetryPolicy(
    rules=[
        RetryRule(NmpConfigurationError, RetryAction.FAIL, reason="correct the connection nmp, then clear the task"),
        RetryRule([ExtractionError, UnknownCampaignError], RetryAction.FAIL, reason="correct it, then clear the task"),
        RetryRule(WentBackError, RetryAction.FAIL, reason="run `make recover`, see the log"),
        RetryRule(LedgerError, RetryAction.FAIL, reason="clear extract_orders, which plans the run"),
        RetryRule(OrdersNeedAttentionError, RetryAction.FAIL, reason="a person must act, see the log"),
        RetryRule(DayNotServedError, RetryAction.FAIL, reason="correct the cause, then clear the reserve task"),
        RetryRule(
            OrdersNotServedError, RetryAction.RETRY, retry_delay=timedelta(seconds=settings().retry_delay_seconds)
        ),
    ]
)
"""What to do by class of error; any other error is tried again as ``retries`` says.

It runs in the process that fails, so it sees no kill. The ledger guards against those.
"""

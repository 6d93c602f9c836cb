"""The project's settings: one model, read from the environment variables ``PASSPORT_LINKS_*``."""

from functools import cached_property, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BRAND = Path(__file__).resolve().parent / "brand"


class Settings(BaseSettings):
    """What an operator can set; each field is ``PASSPORT_LINKS_<NAME>`` in the environment.

    Durations are seconds. Raises ``pydantic.ValidationError`` for a value that cannot be used.
    """

    model_config = SettingsConfigDict(env_prefix="PASSPORT_LINKS_", frozen=True)

    shop_timezone: str = Field("UTC", description="IANA time zone whose midnight begins a business day.")
    schedule: str = Field(
        "0 0 * * *", description="Cron of the runs in the shop's time zone, like */15 * * * *; 'none' for no schedule."
    )
    order_statuses: list[str] = Field(
        ["approved", "delivered", "invoiced", "paid", "processing", "shipped"],
        description="Statuses of eligible orders (a JSON list).",
    )
    lookback_days: int = Field(3, ge=0, description="Days before its own that a scheduled run reads again.")
    catch_up_days: int = Field(
        31, ge=0, description="Days before its own from which a scheduled run reads what no run has read since its end."
    )
    carry_days: int = Field(
        14, ge=0, description="Days after its campaign's ends_on that an unserved order carries over."
    )
    campaigns_file: Path = Field(BRAND / "campaigns.yaml", description="The campaigns.")
    extraction_sql: Path = Field(BRAND / "extract_orders.sql", description="The extraction over orders_db.")

    per_order_limit: int = Field(1000, ge=0, le=1024, description="Up to so many orders get one mapped task each.")
    max_tasks: int = Field(16, ge=1, le=1024, description="Above that, at most so many tasks serve a slice each.")
    max_calls_per_order: int = Field(
        2, ge=1, description="Calls per order that may cost a passport: of a run start or, if scheduled, of a day."
    )
    max_unknown_per_run: int = Field(
        20, ge=1, description="A run stops calling after so many unknown outcomes, or 2 % of its calls if that is more."
    )
    max_duplicates_per_run: int = Field(3, ge=1, description="And after so many certificates of other orders.")
    stop_after_refusals: int = Field(3, ge=1, description="And after so many refusals without a usable answer between.")
    concurrency: int = Field(32, ge=1, description="Calls under way at once, over all runs and processes.")
    calls_per_second: float | None = Field(
        None, gt=0, description="Calls that begin per second, over all runs and processes; empty: no limit."
    )
    max_new_links_per_day: int | None = Field(
        None, ge=1, description="New links per clock day in the shop's time zone, over all runs; empty: no limit."
    )
    call_deadline_seconds: float = Field(30, gt=0, description="Total time of one call, with its whole answer.")
    lease_seconds: float = Field(60, gt=0, description="How long nobody takes over an order in a call.")
    start_in_triggerer: bool = Field(True, description="Start one-order tasks in the triggerer; false: in a worker.")
    task_timeout_seconds: int = Field(4 * 3600, description="execution_timeout of the reserve task.")
    retry_delay_seconds: int = Field(60, ge=1, description="Wait between two tries of a task.")
    reasons_that_fail_a_run: list[str] = Field(
        ["pending", "calling", "out_of_stock", "unknown", "held"],
        description="States of orders without a link that fail check_run (a JSON list).",
    )

    @field_validator("calls_per_second", "max_new_links_per_day", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("shop_timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            message = f"PASSPORT_LINKS_SHOP_TIMEZONE is {value!r}, no IANA time zone; use one like Europe/Paris"
            raise ValueError(message) from None
        return value

    @model_validator(mode="after")
    def _timeouts_in_order(self) -> "Settings":
        if self.lease_seconds <= self.call_deadline_seconds:
            message = (
                f"PASSPORT_LINKS_LEASE_SECONDS ({self.lease_seconds:g}) must be longer than "
                f"PASSPORT_LINKS_CALL_DEADLINE_SECONDS ({self.call_deadline_seconds:g})"
            )
            raise ValueError(message)
        if self.task_timeout_seconds < 2 * (self.lease_seconds + self.call_deadline_seconds):
            message = (
                f"PASSPORT_LINKS_TASK_TIMEOUT_SECONDS ({self.task_timeout_seconds}) must be at least two leases "
                f"and two call deadlines ({2 * (self.lease_seconds + self.call_deadline_seconds):g})"
            )
            raise ValueError(message)
        return self

    @cached_property
    def timezone(self) -> ZoneInfo:
        """The shop's time zone."""
        return ZoneInfo(self.shop_timezone)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Give the settings of this process; they are read once."""
    return Settings()

"""Campaigns: which orders get a passport, from which tag, and what happens to links that nobody claims.

One YAML file, read top down: the first campaign that wants an order takes it. The file's own comments are its manual.
"""

import re
from collections import Counter
from collections.abc import Collection, Hashable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from include.business_day import BadDayError, parse_day
from include.durations import Duration, parse_duration

TAG_LENGTH_LIMIT = 200
"""Characters of a tag; no index of the ledger could hold one of thousands."""


class CampaignFileError(ValueError):
    """The campaign file cannot be used; the message is one sentence for the person who wrote the file."""


class UnknownCampaignError(ValueError):
    """A run asks for a campaign that is not in the file."""


class ResetPolicy(StrEnum):
    """Whether a tag is reset when all its reservations are stale."""

    NEVER = "never"  # not even planned
    WHEN_STALE = "when_stale"  # reset as soon as no live reservation is younger than stale_after


class OnUnknown(StrEnum):
    """What to do after a call when nobody can know whether it consumed a passport."""

    REISSUE = "reissue"  # call again, within the budget: the customer gets a link, a passport may be wasted
    HOLD = "hold"  # a person decides: no passport is wasted, the customer waits


def _clean_text(value: str) -> str:
    if not value.strip() or value != value.strip() or not value.isprintable():
        message = "must be text without blanks around it or control characters; correct it"
        raise ValueError(message)
    return value


def _clean_tag(value: str) -> str:
    if "," in value:
        message = "holds a comma, which the NMP reads as two tags; rename the tag"
        raise ValueError(message)
    if not value or not value.isprintable() or re.search(r"\s", value):
        message = "must be one word without blanks; rename the tag"
        raise ValueError(message)
    if len(value) > TAG_LENGTH_LIMIT:
        message = f"is longer than {TAG_LENGTH_LIMIT} characters; shorten the tag"
        raise ValueError(message)
    if re.search(r"[{}]", value.replace("{yyyy}", "").replace("{mm}", "")):
        message = "has braces other than {yyyy} and {mm}; use only these two"
        raise ValueError(message)
    return value


def _day(value: Any) -> Any:
    # pydantic would take a number for seconds since 1970, and a time for its day.
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str):
        with suppress(BadDayError):
            return parse_day(value)
    message = "is not a day; write it as YYYY-MM-DD, or leave it out for an open end"
    raise ValueError(message)


def _days_if_no_unit(value: Any) -> Any:
    return parse_duration(f"{value}d") if isinstance(value, int) and not isinstance(value, bool) else value


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        message = 'is empty; name at least one product, or write products: "*" for every product'
        raise ValueError(message)
    if "*" in value:
        message = 'holds "*" among names; write products: "*" for every product'
        raise ValueError(message)
    if twice := [name for name, count in Counter(value).items() if count > 1]:
        message = f"names {twice[0]!r} twice; name it once"
        raise ValueError(message)
    return value


def _kind_of_products(value: Any) -> str:
    return "every" if value == "*" else "names"


Text = Annotated[str, AfterValidator(_clean_text)]
TagText = Annotated[str, AfterValidator(_clean_tag)]
Day = Annotated[date, BeforeValidator(_day)]
StaleAfter = Annotated[Duration, BeforeValidator(_days_if_no_unit)]
ProductNames = Annotated[tuple[Text, ...], AfterValidator(_each_once)]
# Chosen before validation: a plain union would report that a list is not "*" before it says what is wrong with it.
Products = Annotated[
    Annotated[Literal["*"], Tag("every")] | Annotated[ProductNames, Tag("names")], Discriminator(_kind_of_products)
]


class Campaign(BaseModel):
    """One campaign. Days are business days, both ends included; ``None`` is an open end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text = Field(description="What people call it; unique in the file.")
    tag: TagText = Field(
        description="Tag of its passports on the NMP; {yyyy} and {mm} are those of the order's business day."
    )
    products: Products = Field(description='Exact names, or "*": every order, one without a product included.')
    starts_on: Day | None = Field(None, description="First business day.")
    ends_on: Day | None = Field(None, description="Last business day.")
    stale_after: StaleAfter = Field(description="A reset may take back an unclaimed link that is older, like 60d.")
    reset: ResetPolicy | None = Field(None, description="Not set: a reset is planned and shown, not done.")
    requeue: bool = Field(False, description="Orders whose link was taken back wait for a new one.", strict=True)
    on_unknown: OnUnknown = Field(OnUnknown.REISSUE, description="After a call of unknown outcome.")
    pool_size: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        None, description="Passports made under the tag, if known: only then can the stock be estimated."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.starts_on and self.ends_on and self.ends_on < self.starts_on:
            message = f"ends_on {self.ends_on} is before starts_on {self.starts_on}; correct one of them"
            raise ValueError(message)
        if self.requeue and self.reset is ResetPolicy.NEVER:
            message = "requeue is true but reset is 'never'; set reset to 'when_stale' or remove requeue"
            raise ValueError(message)
        return self

    def is_open_on(self, day: date) -> bool:
        """Say whether the business day ``day`` lies between ``starts_on`` and ``ends_on``, both included."""
        return (self.starts_on is None or self.starts_on <= day) and (self.ends_on is None or day <= self.ends_on)

    def wants(self, product: str | None, day: date) -> bool:
        """Say whether this campaign takes an order of ``product`` (``None``: it has none) on business day ``day``."""
        return self.is_open_on(day) and (self.products == "*" or product in self.products)

    def tag_for(self, day: date) -> str:
        """Give the tag for an order of business day ``day``, with ``{yyyy}`` and ``{mm}`` filled in."""
        return self.tag.replace("{yyyy}", f"{day:%Y}").replace("{mm}", f"{day:%m}")

    def carry_until(self, carry_days: int) -> date | None:
        """Give the last day on which a run still serves an unserved order; ``None``: there is no last day."""
        if self.ends_on is None or date.max - self.ends_on < timedelta(days=carry_days):
            return None
        return self.ends_on + timedelta(days=carry_days)


class _CampaignFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    campaigns: list[Campaign] = Field(min_length=1)


@dataclass(frozen=True)
class Campaigns:
    """The campaigns of one file, in its order."""

    listed: tuple[Campaign, ...]

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read the YAML file at ``path``.

        Raises ``CampaignFileError``, one sentence that names file, campaign, field and value and says what to do.
        """
        try:
            content = yaml.load(Path(path).read_text(encoding="utf-8-sig"), Loader=_CampaignLoader)  # noqa: S506 (a SafeLoader)
        except OSError as error:
            raise _file_error(path, f"cannot be read ({error.strerror}); give the path of a YAML file") from None
        except UnicodeDecodeError:
            raise _file_error(path, "is not text in UTF-8; save it as UTF-8") from None
        except yaml.YAMLError as error:
            raise _file_error(path, f"is not readable as YAML: {_yaml_problem(error)}; correct it") from None
        if not isinstance(content, dict):
            raise _file_error(path, "does not begin with 'campaigns:'; list the campaigns below such a line")
        try:
            listed = _CampaignFile.model_validate(content).campaigns
        except ValidationError as error:
            raise _file_error(path, _first_problem(error, content)) from None
        if twice := [name for name, count in Counter(c.name for c in listed).items() if count > 1]:
            raise _file_error(path, f"has two campaigns named {twice[0]!r}; give each a name of its own")
        return cls(tuple(listed))

    @property
    def names(self) -> list[str]:
        """Names of the campaigns, in the file's order."""
        return [campaign.name for campaign in self.listed]

    def require(self, names: Collection[str]) -> None:
        """Raise ``UnknownCampaignError``, which names those of ``names`` the file does not have and those it has."""
        if unknown := [name for name in names if name not in self.names]:
            message = (
                f"no campaign is named {', '.join(map(repr, unknown))}; the file has {', '.join(map(repr, self.names))}"
            )
            raise UnknownCampaignError(message)

    def match(self, product: str | None, day: date) -> Campaign | None:
        """Give the campaign an order belongs to: the first that wants ``product`` on business day ``day``, or ``None``.

        A run that serves only some campaigns changes nothing here: an order of another campaign waits for its own run.
        """
        return next((campaign for campaign in self.listed if campaign.wants(product, day)), None)


class _CampaignLoader(yaml.SafeLoader):
    """YAML as ``safe_load`` reads it, but a key given twice is an error, and dates stay text.

    YAML itself would let the last of the two keys win, and fail on 2026-02-30 without naming the campaign.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                problem = f"the field {key.value!r} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_CampaignLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _file_error(path: Path | str, problem: str) -> CampaignFileError:
    return CampaignFileError(f"campaign file {path} {problem}")


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return " ".join(str(error).split())


def _first_problem(error: ValidationError, content: dict[Any, Any]) -> str:
    """Turn pydantic's first error into the rest of a sentence that began with the file."""
    details = error.errors(include_url=False, include_context=False)
    match details[0]["loc"]:
        case ("campaigns", int(position), *fields):
            where = f"has an error in campaign {_campaign_name(content, position)}"
            what = _field_problem(str(fields[0]), details[0]) if fields else _campaign_problem(details[0])
        case ("campaigns",):
            where, what = "has no usable list of campaigns", "list at least one below 'campaigns:'"
        case location:
            where, what = "has an error", f"{location[0]!r} is not a known field beside 'campaigns'; remove it"
    more = f" ({len(details) - 1} more after this one)" if len(details) > 1 else ""
    return f"{where}: {what}{more}"


def _campaign_problem(detail: ErrorDetails) -> str:
    if detail["type"] == "value_error":
        return _message(detail)
    return "it is not a set of fields; write name, tag, products and stale_after below it"


def _campaign_name(content: dict[Any, Any], position: int) -> str:
    campaign = content["campaigns"][position]
    name = campaign.get("name") if isinstance(campaign, dict) else None
    return f"{name!r}" if isinstance(name, str) else f"number {position + 1}"


def _field_problem(field: str, detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return f"{field} is missing; add it"
        case "extra_forbidden":
            return f"{field!r} is not a known field; the fields are {', '.join(Campaign.model_fields)}"
        case "value_error":
            return f"{field} {_shown(detail['input'])} {_message(detail)}"
        case "tuple_type":
            return (
                f"{field} {_shown(detail['input'])} is not a list; write products: [name, name], "
                'or products: "*" (in quotes) for every product'
            )
        case "string_type":
            return f"{field} {_shown(detail['input'])} is not text; put it in quotes"
        case "enum":
            allowed = {"reset": ResetPolicy, "on_unknown": OnUnknown}.get(field, ())
            return f"{field} {_shown(detail['input'])} is not known; use one of {', '.join(allowed)}"
        case _:
            return f"{field} {_shown(detail['input'])} cannot be used: {_message(detail)}"


def _message(detail: ErrorDetails) -> str:
    return detail["msg"].removeprefix("Value error, ")


def _shown(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else text[:77] + "..."

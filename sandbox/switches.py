"""Every point that the NMP's documentation leaves open, as a switch; the defaults are the documented examples."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

MOST_EARLIER_CLAIMS = 10_000_000

Count = Annotated[int, Field(ge=0)]


class Right(StrEnum):
    """What a key may do."""

    CERT_CREATE = "certCreate"
    CERT_READ = "certRead"


class DeeplinkForm(StrEnum):
    """The form of ``deeplink`` in a linkObject: reserveOne documents an object, the kiosk a string."""

    OBJECT = "object"
    STRING = "string"


class AfterReset(StrEnum):
    """The passphrase of a passport that was reset, when it is given again."""

    KEPT = "kept"
    NEW = "new"  # the former link ends when the new one is given


class OldLink(StrEnum):
    """How long the link of a passport that was reset still claims."""

    DIES = "dies"  # it ends with the reset; it claims again if the same link is given again
    UNTIL_GIVEN = "until_given"  # until the passport is given again with a new passphrase
    LIVES = "lives"  # until the passport is claimed, whatever link is given later


class ChosenPassphrase(StrEnum):
    """What the passphrase means that a replacement is sent with: ``[certificateId, passphrase]``."""

    HONOURED = "honoured"  # it is the new one; sent again, it gives the same link again
    REPEAT_REFUSED = "repeat_refused"  # it is the new one; one that the passport had before is refused
    IGNORED = "ignored"  # the platform makes the new one
    CURRENT = "current"  # it must be the current one, else the call is refused; the platform makes the new one


class ReturnsTo(StrEnum):
    """Where a passport that was reset goes in its pool."""

    FRONT = "front"
    BACK = "back"


class ResetScope(StrEnum):
    """What resetAll resets: all, as its path says, or some at random, as its page says."""

    ALL = "all"
    SOME = "some"


class TagRule(StrEnum):
    """What several tags in one call mean."""

    AND = "and"
    OR = "or"


class ConsumeOn(StrEnum):
    """What takes a passport from the pool: the call, or the customer's first scan or claim."""

    CALL = "call"
    CLAIM = "claim"


class Refusal(BaseModel):
    """The answer to a caller who may not call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: int = Field(ge=400, le=599)
    body: Any = Field(description="JSON, or a string that is sent as text.")


class Switches(BaseModel):
    """How the sandbox reads what the NMP's documentation leaves open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auto_pool: bool = Field(default=True, description="A tag that reserveOne sees for the first time gets a pool.")
    auto_pool_size: int = Field(default=100_000, ge=1, description="The size of such a pool.")

    ids_as_strings: bool = Field(default=False, description="certificateId as a string.")
    extra_fields: bool = Field(default=False, description="Answers have a field that is not documented.")
    deeplink: DeeplinkForm = Field(default=DeeplinkForm.OBJECT, description="deeplink as an object or a string.")
    link_fields: int = Field(
        default=2, ge=2, le=4, description="Comma fields in a link: id, passphrase, protocol, issuer."
    )
    link_method: bool = Field(default=False, description="Links have the method segment requestOwnership/.")
    link_host: str = Field(default="test.arianee.net", min_length=1, description="The host of the links.")
    link_query: str = Field(default="", description="A query string that links end with, without its question mark.")
    trailing_newline: bool = Field(default=False, description="A text link ends with a newline.")
    link_content_type: str = Field(default="text/plain; charset=utf-8", description="Content type of format=link.")
    object_content_type: str = Field(
        default="application/json; charset=utf-8", description="Content type of JSON answers."
    )

    passphrase_length: int = Field(
        default=12, ge=12, le=64, description="Characters of a passphrase that the platform makes."
    )
    passphrase_digits: bool = Field(default=False, description="Passphrases are all digits.")
    passphrase_after_reset: AfterReset = Field(default=AfterReset.KEPT, description="Passphrase after a reset.")
    old_link_after_reset: OldLink = Field(
        default=OldLink.UNTIL_GIVEN, description="How long the link of a passport that was reset still claims."
    )
    reset_returns_to: ReturnsTo = Field(
        default=ReturnsTo.FRONT, description="Front: the next order gets a reset passport."
    )
    reset_scope: ResetScope = Field(default=ResetScope.ALL, description="What resetAll resets.")
    claims_in_reset: tuple[Count, Count] = Field(
        default=(0, 0),
        description="Customers who claim while resetAll works: so many before it takes effect, so many after it.",
    )
    reset_right: Right | None = Field(
        default=Right.CERT_CREATE, description="The right that resetAll needs; null: any key."
    )
    tag_rule: TagRule = Field(default=TagRule.AND, description="What several tags mean to reserveOne and resetAll.")
    consume_on: ConsumeOn = Field(default=ConsumeOn.CALL, description="What takes a passport from the pool.")
    reserve_claimed: bool = Field(default=False, description="reserveOne gives claimed passports of the pool too.")
    mining_seconds: float = Field(
        default=0.0, ge=0, description="Seconds in which an old link still claims after its replacement."
    )
    chosen_passphrase: ChosenPassphrase = Field(
        default=ChosenPassphrase.HONOURED, description="What a passphrase means that a replacement is sent with."
    )
    refused_replacement: int = Field(
        default=500, ge=400, le=599, description="Status of the answer to a replacement that is refused."
    )

    claims_lag_seconds: float = Field(
        default=0.0, ge=0, description="Seconds until a claim appears in the list and the count of claims."
    )
    earlier_claims: dict[str, Annotated[int, Field(ge=0, le=MOST_EARLIER_CLAIMS)]] = Field(
        default_factory=dict, description="Per tag: so many claims of other passports, first in the list."
    )

    no_key: Refusal = Field(
        default=Refusal(status=401, body={"message": "Unauthorized"}), description="Without x-api-key."
    )
    wrong_key: Refusal = Field(
        default=Refusal(status=401, body={"message": "Unauthorized"}), description="An unknown key."
    )
    no_right: Refusal = Field(
        default=Refusal(status=403, body={"message": "no user"}), description="A key without the right."
    )

    latency_ms: tuple[float, float] = Field(
        default=(0.0, 0.0), description="Milliseconds that an answer takes: least and most, or one number."
    )

    @field_validator("latency_ms", mode="before")
    @classmethod
    def _fixed_or_range(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int | float) else value

    @field_validator("latency_ms")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            message = f"latency_ms is {list(value)}; give a number of milliseconds, or the least and the most"
            raise ValueError(message)
        return value

    @field_validator("link_content_type", "object_content_type")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isascii() or not value.isprintable():
            message = "a content type may only have printable ASCII characters"
            raise ValueError(message)
        return value

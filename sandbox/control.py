"""The sandbox's own routes, under /sandbox/: pools, keys, switches, faults, claims, history, counters.

Callers on the loopback address need no key; all others need ``x-sandbox-key``. ``/sandbox/docs`` lists the routes.
"""

import hmac
from collections.abc import Callable
from ipaddress import ip_address
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sandbox.calls import ActOutcome, CustomerAct, parse_link
from sandbox.faults import FaultRule
from sandbox.nmp import NmpApi
from sandbox.platform import Platform
from sandbox.switches import Right, Switches


class PoolRequest(BaseModel):
    """A pool: the tags of its passports, and how many passports it has in all."""

    model_config = ConfigDict(extra="forbid")

    tags: list[str] = Field(min_length=1)
    size: int = Field(ge=0)


class KeyRequest(BaseModel):
    """A user's new API key; without ``key`` one is made. The former key of the user is revoked."""

    model_config = ConfigDict(extra="forbid")

    user: str = Field(min_length=1)
    key: str | None = Field(default=None, min_length=1)
    rights: list[Right] = Field(default_factory=lambda: list(Right))


class LinkRequest(BaseModel):
    """The passport that a customer scans or claims: by its link, or by certificate id and passphrase."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    link: str | None = None
    certificate_id: int | None = None
    passphrase: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "LinkRequest":
        by_id = self.certificate_id is not None and self.passphrase is not None
        if (self.link is not None) == by_id:
            message = "give either link, or certificate_id and passphrase"
            raise ValueError(message)
        if self.link is not None:
            self.certificate_id, self.passphrase = parse_link(self.link)
        return self


STATUS_OF = {ActOutcome.DONE: 200, ActOutcome.ALREADY_CLAIMED: 409, ActOutcome.NOT_VALID: 404}


class Control:
    """The control routes, one method each; ``control_app`` gives them their paths."""

    def __init__(self, platform: Platform, nmp: NmpApi):
        self._platform = platform
        self._nmp = nmp

    async def health(self) -> dict[str, Any]:
        """Give the status, the seed, and whether the state was restored from a file."""
        return {"status": "ok", "seed": self._platform.seed, "restored": self._platform.restored}

    async def put_pool(self, pool: PoolRequest) -> dict[str, int]:
        """Create a pool or change its size; it keeps at least the passports that were given."""
        return self._platform.set_pool(tuple(pool.tags), pool.size)

    async def get_keys(self) -> dict[str, list[Right]]:
        """List the users that have a key, and its rights."""
        return self._platform.rights()

    async def put_key(self, request: KeyRequest) -> dict[str, str]:
        """Give a user an API key, which revokes the former one."""
        key = request.key or str(uuid4())
        self._platform.set_key(request.user, key, request.rights)
        return {"user": request.user, "key": key}

    async def drop_key(self, user: str) -> None:
        """Revoke a user's key."""
        try:
            self._platform.drop_key(user)
        except KeyError:
            raise HTTPException(404, f"there is no user {user!r}") from None

    async def get_switches(self) -> Switches:
        """Give all switches."""
        return self._platform.switches

    async def set_switches(self, changes: dict[str, Any]) -> Switches:
        """Change some switches and give all."""
        return self._platform.set_switches(changes)

    async def get_faults(self) -> dict[str, list[FaultRule]]:
        """Give the mix, and what is left of the queue."""
        return {"mix": self._platform.faults.mix, "queue": self._platform.faults.queued}

    async def set_faults(self, rules: list[FaultRule]) -> dict[str, list[FaultRule]]:
        """Replace the mix: each rule strikes its share of the calls, as the seed decides."""
        self._platform.set_faults(rules)
        return await self.get_faults()

    async def queue_fault(self, rule: FaultRule) -> dict[str, list[FaultRule]]:
        """Let the next matching calls have a fault: ``limit`` of them, or one."""
        self._platform.queue_fault(rule)
        return await self.get_faults()

    async def clear_faults(self) -> None:
        """End the mix and the queue."""
        self._platform.clear_faults()

    async def claim(self, request: LinkRequest) -> JSONResponse:
        """Claim a passport as its customer: the first claim owns it from then on."""
        return self._act(CustomerAct.CLAIM, request)

    async def scan(self, request: LinkRequest) -> JSONResponse:
        """Scan a link as its customer, without claiming."""
        return self._act(CustomerAct.SCAN, request)

    def _act(self, kind: CustomerAct, request: LinkRequest) -> JSONResponse:
        outcome = self._platform.act(kind, request.certificate_id or 0, request.passphrase or "", request.link)
        return JSONResponse({"outcome": outcome, "certificate_id": str(request.certificate_id)}, STATUS_OF[outcome])

    async def history(
        self, since: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000
    ) -> JSONResponse:
        """List what happened after entry ``since``, oldest first."""
        return JSONResponse({"entries": self._platform.history(since, limit)})

    async def counters(self) -> dict[str, Any]:
        """Count calls by kind, reservations given, claims, faults by kind, passports by tag, and calls under way."""
        return {
            **self._platform.counters(),
            "under_way": self._nmp.under_way,
            "most_under_way": self._nmp.most_under_way,
        }


def control_app(platform: Platform, nmp: NmpApi, control_key: str | None = None) -> FastAPI:
    """Build the control routes; callers from other addresses than loopback need ``control_key``."""

    def may_control(request: Request) -> None:
        local = request.client is not None and ip_address(request.client.host).is_loopback
        given = request.headers.get("x-sandbox-key", "")
        if not local and not (control_key and hmac.compare_digest(given.encode(), control_key.encode())):
            raise HTTPException(403, "control routes need the loopback address or the header x-sandbox-key")

    control = Control(platform, nmp)
    routes: list[tuple[str, str, Callable[..., Any]]] = [
        ("PUT", "/pools", control.put_pool),
        ("GET", "/keys", control.get_keys),
        ("PUT", "/keys", control.put_key),
        ("GET", "/switches", control.get_switches),
        ("PATCH", "/switches", control.set_switches),
        ("GET", "/faults", control.get_faults),
        ("PUT", "/faults", control.set_faults),
        ("POST", "/faults/queue", control.queue_fault),
        ("POST", "/claim", control.claim),
        ("POST", "/scan", control.scan),
        ("GET", "/history", control.history),
        ("GET", "/counters", control.counters),
    ]
    guarded = APIRouter(prefix="/sandbox", dependencies=[Depends(may_control)])
    for method, path, endpoint in routes:
        guarded.add_api_route(path, endpoint, methods=[method])
    guarded.add_api_route("/keys/{user}", control.drop_key, methods=["DELETE"], status_code=204)
    guarded.add_api_route("/faults", control.clear_faults, methods=["DELETE"], status_code=204)

    app = FastAPI(title="NMP sandbox", docs_url="/sandbox/docs", redoc_url=None, openapi_url="/sandbox/openapi.json")
    app.add_api_route("/sandbox/health", control.health, methods=["GET"])
    app.include_router(guarded)
    app.add_exception_handler(RequestValidationError, _say_what_is_wrong)
    app.add_exception_handler(ValueError, _say_what_is_wrong)
    return app


async def _say_what_is_wrong(_request: Request, error: Exception) -> JSONResponse:
    # FastAPI's own answer repeats the input, which may be a link
    if isinstance(error, RequestValidationError | ValidationError):
        detail: object = [{"field": ".".join(map(str, part["loc"])), "message": part["msg"]} for part in error.errors()]
    else:
        detail = str(error)
    return JSONResponse({"detail": detail}, 422)

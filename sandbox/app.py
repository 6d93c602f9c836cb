"""The whole sandbox as one ASGI application: the NMP's routes in front, the control routes under /sandbox/."""

import logging

from pydantic import BaseModel, ConfigDict, Field

from sandbox.control import KeyRequest, PoolRequest, control_app
from sandbox.faults import FaultRule
from sandbox.nmp import NmpApi
from sandbox.platform import Platform
from sandbox.wire import Receive, Scope, Send

logger = logging.getLogger("sandbox")


class SandboxConfig(BaseModel):
    """What a configuration file may have; it is read when a state begins, not when one is continued."""

    model_config = ConfigDict(extra="forbid")

    keys: list[KeyRequest] = Field(default_factory=list)
    pools: list[PoolRequest] = Field(default_factory=list)
    switches: dict[str, object] = Field(default_factory=dict)
    faults: list[FaultRule] = Field(default_factory=list)

    def apply(self, platform: Platform) -> None:
        """Set all of it on a platform; raises ValueError (pydantic's too) for a value that cannot be used."""
        for key in self.keys:
            if key.key is None:
                message = f"the key of user {key.user!r} is missing; a configuration has to name it"
                raise ValueError(message)
            platform.set_key(key.user, key.key, key.rights)
        platform.set_switches(self.switches)
        for pool in self.pools:
            platform.set_pool(tuple(pool.tags), pool.size)
        platform.set_faults(self.faults)


class SandboxApp:
    """The NMP's routes and the control routes, by path."""

    def __init__(self, platform: Platform, control_key: str | None = None):
        self.nmp = NmpApi(platform)
        self.control = control_app(platform, self.nmp, control_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; an unexpected error is logged by its type and place only, for its text may hold a link."""
        app = self.control if scope["type"] != "http" or scope["path"].startswith("/sandbox/") else self.nmp
        try:
            await app(scope, receive, send)
        except Exception as error:
            place = error.__traceback__
            while place and place.tb_next:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "nowhere"
            logger.error("a request failed in the sandbox: %s at %s", type(error).__name__, where)  # noqa: TRY400
            raise RequestFailedError from None


class RequestFailedError(Exception):
    """Replaces an error whose text must not be logged."""

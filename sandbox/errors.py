"""The one error a person starting the sandbox sees."""


class SandboxError(Exception):
    """The sandbox cannot start or go on; the message is one sentence that names the thing and the next step."""

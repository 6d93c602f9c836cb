"""The one error of the sandbox."""


class SandboxError(Exception):
    """The sandbox cannot start or continue; the message is one sentence that names the thing and the next step."""

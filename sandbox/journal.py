"""The state file of the sandbox: every command, appended before its answer is sent and replayed at the next start.

So a SIGKILL loses nothing that was answered. (The file is not synced to the disk: if the machine loses power, the last
lines may be lost.) It holds passphrases of claimed links and hashes of keys; only its owner can read it.
"""

import fcntl
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxError


class Journal:
    """One open state file, locked against a second sandbox.

    Raises SandboxError when the file cannot be opened or is in use.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"the state file {path} cannot be opened ({error.strerror}); name a file in a writable folder"
            raise SandboxError(message) from None
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            message = f"the state file {path} is not a regular file; name a file in a writable folder"
            raise SandboxError(message)
        os.fchmod(self._fd, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            message = f"the state file {path} is in use by another sandbox; stop that one or name another file"
            raise SandboxError(message) from None

    def events(self) -> Iterator[dict[str, Any]]:
        """Give every event in order; an incomplete last line is removed from the file: its answer was not sent.

        Raises SandboxError for a line that is not an event.
        """
        whole = 0
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    event = json.loads(line)
                except ValueError:
                    event = None
                if not isinstance(event, dict):
                    message = f"line {number} of the state file {self.path} is not a sandbox event; name another file"
                    raise SandboxError(message)
                whole += len(line)
                yield event
        os.ftruncate(self._fd, whole)

    def append(self, event: dict[str, Any]) -> None:
        """Write one event; if that fails, end the process at once, so that nothing is answered that is not kept."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            sys.stderr.write(
                f"the state file {self.path} cannot be written ({error.strerror}); free some space and restart\n"
            )
            sys.stderr.flush()
            os._exit(1)

    def close(self) -> None:
        """Close the file and release its lock."""
        os.close(self._fd)

"""Name lookups that a deadline can end."""

import socket
from concurrent.futures import Future
from ipaddress import ip_address
from threading import Lock, Thread


class Lookups:
    """Name lookups with a timeout: getaddrinfo has none, so it runs in a thread.

    Calls that wait for the same name share one lookup: if it hangs, it costs one thread, not one per call.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way: dict[str, Future[list[str]]] = {}

    def addresses(self, host: str, timeout: float) -> list[str]:
        """Give the host's addresses in the system's order; raises gaierror, or TimeoutError after ``timeout`` s."""
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        with self._lock:
            found = self._under_way.get(host)
            if found is None:
                found = self._under_way[host] = Future()
                Thread(target=self._look_up, args=(host, found), name="nmp-lookup", daemon=True).start()
        return found.result(timeout=timeout)

    def _look_up(self, host: str, found: Future[list[str]]) -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))
        except Exception as error:  # gaierror, or UnicodeError for a name that DNS cannot hold
            found.set_exception(error)
        finally:
            with self._lock:
                del self._under_way[host]

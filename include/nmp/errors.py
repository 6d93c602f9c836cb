"""Everything that the package raises; it imports nothing, so whoever only catches errors stays fast to import."""


class NmpConfigurationError(ValueError):
    """The connection ``nmp`` is missing or wrong; one sentence that names what is wrong and the next step."""


class NmpError(Exception):
    """A call other than reserve failed. Its text holds no key, link or body.

    ``possibly_done`` says whether the NMP may have done what was asked nevertheless.
    """

    possibly_done = False


class NmpNotReachedError(NmpError):
    """The request was not sent."""


class NmpRefusedError(NmpError):
    """The NMP answered 4xx, so it did nothing."""


class NmpUncertainError(NmpError):
    """There is no answer, or one that leaves open whether it was done: 3xx, 5xx, a timeout, a cut connection."""

    possibly_done = True


class NmpUnreadableError(NmpError):
    """The NMP answered 200, so it was done, but the answer is not as documented."""

    possibly_done = True

"""``make recover``: what a person does after the warehouse went back in time (``docs/recovery.md``)."""

import argparse
import getpass
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from airflow.sdk.exceptions import AirflowException

from include.campaigns import CampaignFileError, Campaigns
from include.recovery import recovering
from include.recovery.hand_over import RecoveryError
from include.settings import settings
from include.warehouse.database import Connect, SafeDatabaseError
from include.warehouse.publishing import LoadCheckError, load_links
from passport_airflow.connections import warehouse

NONE = "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the steps that are named and print what is left; return 1 after a step that could not be done."""
    given = _parse(arguments)
    failed = False
    try:
        database = warehouse()
        for line in _steps(database, given):
            failed = failed or line.startswith("not adopted")
            sys.stdout.write(line + "\n")
        for line in recovering.status(database):
            sys.stdout.write(line + "\n")
    except (AirflowException, CampaignFileError, SafeDatabaseError, LoadCheckError, RecoveryError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return int(failed)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make recover", description=__doc__)
    parser.add_argument("--since", default="", help="begin: the time of the backup")
    parser.add_argument("--reset-tags", default="", help="tags that were reset since, with commas; or none")
    parser.add_argument("--withdrawn", default="", help="file of order keys whose link was withdrawn since; or none")
    parser.add_argument("--links", default="", help="files of hand-overs since, with spaces; or none")
    parser.add_argument("--finish", default="", help="yes: end the recovery")
    return parser.parse_args(arguments)


def _steps(database: Connect, given: argparse.Namespace) -> Iterator[str]:
    by = getpass.getuser()
    if given.since:
        begun = recovering.begin(database, since=_moment(given.since), by=by)
        yield f"begun: {begun.held} orders are held, {begun.kept_back} links are kept back"
    if given.reset_tags:
        requeued = [each.name for each in Campaigns.load(settings().campaigns_file).listed if each.requeue]
        recovering.name_resets(database, _named(given.reset_tags.split(",")), requeued)
        yield f"resets since the backup: {given.reset_tags}"
    if given.withdrawn:
        recovering.name_withdrawals(database, None if given.withdrawn == NONE else Path(given.withdrawn))
        yield f"withdrawals since the backup: {given.withdrawn}"
    if given.links:
        adopted = recovering.give_links(database, [Path(name) for name in _named(given.links.split())])
        yield f"adopted: {len(adopted.orders)} links"
        for fault in adopted.faults:
            yield f"not adopted: {fault.place}, order {fault.order_key}: {fault.fault}"
        if adopted.faults:
            yield f"{len(adopted.faults)} rows are not adopted: correct the files, then give them again"
    if given.finish:
        if given.finish != "yes":
            message = f"FINISH={given.finish} is no answer: write FINISH=yes"
            raise RecoveryError(message)
        yield f"ended: {recovering.finish(database, by=by)} orders wait for a link again"
    if any(vars(given).values()):
        load_links(database, run_id="make recover")


def _named(words: Sequence[str]) -> list[str]:
    stripped = [word.strip() for word in words if word.strip()]
    return [] if stripped == [NONE] else stripped


def _moment(text: str) -> datetime:
    """Read a time; without a zone it is one of the shop's."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"SINCE={text} is no time: write it like 2026-11-25T03:00 (the shop's zone) or 2026-11-25T03:00+00:00"
        raise RecoveryError(message) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=settings().timezone)


if __name__ == "__main__":
    sys.exit(main())

"""What extends Airflow: connections, the NMP hook, the reserve operator and its trigger, the page.

The import fails where Python would find another package ``include`` than this project's.
"""

from importlib.util import find_spec
from pathlib import Path


def _require_include() -> None:
    """Raise ``ImportError``, which says what to do, unless the package ``include`` that Python finds is the project's.

    Looks and imports nothing, so that no code of another package runs.
    """
    found = find_spec("include")
    folders = list(found.submodule_search_locations or []) if found else []
    if any(Path(folder, "business_day.py").is_file() for folder in folders):
        return
    instead = (found and found.origin) or next(iter(folders), "none")
    message = (
        f"the package 'include' that Python finds ({instead}) is not this project's: put the folder that holds dags/, "
        "plugins/ and include/ before site-packages in sys.path, for example with PYTHONPATH=/opt/airflow"
    )
    raise ImportError(message)


_require_include()

"""The NMP as documented, on a port: reserve, reset, replace and claim passports without using up real ones.

Start it with ``make sandbox`` or ``python -m sandbox``; tests and the local stack use ``server.py``.
``docs/sandbox.md`` lists its routes, switches and faults.
"""

"""What runs: one Prefect flow a file, and the command line.

Prefect reads its settings from the environment when it is imported; these are Headrace's defaults for it, in force
wherever the user has set nothing: no telemetry, no update checks, no chatter, patience with a slow start.
"""

import os

for name, value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLI_PROMPT": "false",
    "DO_NOT_TRACK": "1",
}.items():
    os.environ.setdefault(name, value)

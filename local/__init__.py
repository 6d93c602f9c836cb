"""The local stack: embedded PostgreSQL, the NMP sandbox and Airflow as child processes on the loopback address."""

"""Everything that knows nothing of Airflow: it imports neither ``airflow`` nor ``dags``."""

"""The page about passport links: what it reads and how it is rendered; knows nothing of Airflow."""

"""What extends Airflow: connections, the NMP hook, the reserve operator and its trigger, the page."""

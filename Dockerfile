# Airflow's slim image and nothing but the pins of requirements-image.txt on top. With the providers of the full image,
# of which nothing here is imported, it would be 438 packages instead of 181. Resolved together, those providers accept
# the bounds of requirements.in, with pandas 2 and 3 and with SQLAlchemy 2.0 and 2.1; but not these exact pins: Google's
# and Snowflake's need older versions of protobuf, tenacity and websockets. There, install requirements.in instead.
ARG AIRFLOW_IMAGE=apache/airflow:slim-3.3.2-python3.12
FROM ${AIRFLOW_IMAGE}

COPY requirements-image.txt /opt/passport-links/
RUN pip install --no-cache-dir --requirement /opt/passport-links/requirements-image.txt

# Pins that do not fit together fail here and not in a container. (What Airflow writes at its first import is secret.)
RUN AIRFLOW_HOME=/tmp/build python -c "import airflow.providers.celery.executors.celery_executor_utils, \
    airflow.providers.fab.auth_manager.fab_auth_manager" && rm -rf /tmp/build

WORKDIR /opt/airflow
# New volumes take their owner from these folders.
RUN mkdir -p -m 775 logs sandbox

# The image is whole by itself; docker-compose.yaml mounts the three folders over it, so that edits need no new build.
COPY dags dags
COPY plugins plugins
COPY include include
# The project's package include must come before any other of that name in site-packages.
ENV PYTHONPATH=/opt/airflow

# Healthy means that the API server answers and reaches its database; the other components have checks of their own.
CMD ["airflow", "api-server"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=5 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://localhost:8080/api/v2/monitor/health"]

#!/bin/sh
# Roles and databases of the compose stack. The postgres image runs this once, on an empty volume.
# Airflow's role cannot reach the links, and the pipeline's role only reads the shop's orders.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv passport_password PASSPORT_DB_PASSWORD
\getenv orders_table ORDERS_TABLE
create role airflow login password :'airflow_password';
create role passport login password :'passport_password';
create role passport_pipeline nologin;
create role passport_distributor nologin;
create role passport_analyst nologin;

create database airflow owner airflow;
create database warehouse owner passport;
create database shop;
revoke connect on database airflow, warehouse, shop from public;
grant connect on database warehouse to passport_pipeline, passport_distributor, passport_analyst;
grant connect on database shop to passport;

\connect shop
\i :orders_table
;
grant select on orders to passport;
SQL

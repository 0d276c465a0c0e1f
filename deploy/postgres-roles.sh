#!/bin/sh
# Run once by the Postgres image, before it accepts connections: Rota's three logins and its database. None is a
# superuser, and the superuser's password stays with Postgres. What each may do is decided by the migrations.
set -eu
psql --set ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner_password ROTA_OWNER_PASSWORD
\getenv app_password ROTA_APP_PASSWORD
\getenv system_password ROTA_SYSTEM_PASSWORD
CREATE ROLE rota_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE rota_app LOGIN PASSWORD :'app_password';
CREATE ROLE rota_system LOGIN PASSWORD :'system_password';
CREATE DATABASE rota OWNER rota_owner;
REVOKE ALL ON DATABASE rota FROM PUBLIC;
GRANT CONNECT ON DATABASE rota TO rota_app, rota_system;
SQL

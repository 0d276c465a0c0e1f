"""The tables that the job needs."""

TABLES = """
CREATE TABLE jobs (id uuid PRIMARY KEY, message text NOT NULL, status text NOT NULL DEFAULT 'queued', answer text,
                   tokens integer, cost numeric, created_at timestamptz NOT NULL DEFAULT now(),
                   finished_at timestamptz);
CREATE TABLE classes (id serial PRIMARY KEY, name text NOT NULL, category text NOT NULL, description text NOT NULL);
INSERT INTO classes (name, category, description)
SELECT 'Spin ' || n, 'cardio', 'Indoor cycling to music.' FROM generate_series(1, 10) n;
"""

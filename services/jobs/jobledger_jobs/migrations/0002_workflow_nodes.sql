-- Workflows: what they are, and how each node of each run stands.

ALTER TABLE jobs
    ADD COLUMN workflow json,
    ADD COLUMN node_counts json; -- of the latest run that nodes were reported of: {"run": 1, "total": 3, "counts": {"Complete": 3}}

CREATE TABLE job_nodes (
    job_id uuid NOT NULL,
    run bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    number integer NOT NULL, -- from 0, in the order in which the nodes of the run were first heard of
    status text NOT NULL,
    restarts bigint NOT NULL,
    scheduler_job_ref text NOT NULL,
    exit_code bigint,
    exit_signal bigint,
    message text NOT NULL,
    start_time timestamptz,
    completion_time timestamptz,
    PRIMARY KEY (job_id, run, number)
);
CREATE UNIQUE INDEX job_nodes_by_name ON job_nodes (job_id, run, left(name, 256), md5(name));

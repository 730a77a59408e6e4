-- The read model of the jobs service: rows that are made from the log alone and can be thrown away and made again.
-- A name may be longer than an index entry (2704 bytes), so indexes hold its first 256 characters; see `queries.sql`.

CREATE TABLE jobs (
    job_id uuid PRIMARY KEY,
    version bigint NOT NULL, -- events folded into this row
    partition integer NOT NULL, -- the last of them
    log_offset bigint NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    owner text NOT NULL,
    groups text[] NOT NULL,
    label text NOT NULL,
    job_type text NOT NULL,
    status text NOT NULL,
    status_text text NOT NULL,
    status_message text NOT NULL,
    progress double precision,
    run bigint NOT NULL,
    desired text NOT NULL,
    scheduler text NOT NULL,
    scheduler_job_ref text NOT NULL,
    exit_code bigint,
    exit_signal bigint,
    workspace text NOT NULL,
    extended_properties json NOT NULL,
    condor json,
    dask json,
    creation_time timestamptz NOT NULL,
    execute_time timestamptz,
    start_time timestamptz,
    completion_time timestamptz,
    deleted boolean NOT NULL
);

CREATE INDEX jobs_by_label_owner_status
    ON jobs (left(label, 256), left(owner, 256), status, creation_time DESC, job_id DESC) WHERE NOT deleted;
CREATE INDEX jobs_by_label_owner ON jobs (left(label, 256), left(owner, 256), creation_time DESC, job_id DESC) WHERE NOT deleted;
CREATE INDEX jobs_by_owner ON jobs (left(owner, 256), creation_time DESC, job_id DESC) WHERE NOT deleted;
CREATE INDEX jobs_by_label ON jobs (left(label, 256), creation_time DESC, job_id DESC) WHERE NOT deleted;
CREATE INDEX jobs_by_status ON jobs (status, creation_time DESC, job_id DESC) WHERE NOT deleted;
CREATE INDEX jobs_by_time ON jobs (creation_time DESC, job_id DESC) WHERE NOT deleted;

-- Which groups may see which jobs, in the order that lists have, so that a page of a group's jobs is one index scan.
CREATE TABLE job_groups (
    job_id uuid NOT NULL,
    group_name text NOT NULL,
    creation_time timestamptz NOT NULL
);
CREATE INDEX job_groups_by_group ON job_groups (left(group_name, 256), creation_time DESC, job_id DESC);
CREATE INDEX job_groups_by_job ON job_groups (job_id);

-- Every event that was folded, whatever its verdict, and how the job stood after it.
CREATE TABLE history (
    partition integer NOT NULL,
    log_offset bigint NOT NULL,
    job_id uuid NOT NULL,
    version bigint NOT NULL,
    event_id text NOT NULL,
    source text NOT NULL,
    type text NOT NULL,
    type_version integer NOT NULL,
    actor text NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    traceparent text NOT NULL,
    run bigint,
    outcome text NOT NULL,
    reason text NOT NULL,
    status text NOT NULL,
    status_text text NOT NULL,
    status_message text NOT NULL,
    progress double precision,
    data json NOT NULL, -- the text as it was sent
    PRIMARY KEY (partition, log_offset)
);
CREATE INDEX history_by_job ON history (job_id, version);

-- The schedulers that jobs may name.
CREATE TABLE schedulers (
    name text PRIMARY KEY,
    type text NOT NULL,
    health text NOT NULL,
    usable boolean NOT NULL
);

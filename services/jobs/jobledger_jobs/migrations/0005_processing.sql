-- Results that an app's own worker processes: which function, how far it has come, and which runs wait for it.

ALTER TABLE jobs
    ADD COLUMN process_results_function text NOT NULL DEFAULT '',
    ADD COLUMN processing_attempt bigint NOT NULL DEFAULT 0,
    ADD COLUMN processing boolean NOT NULL DEFAULT false;

-- The runs whose results wait, from the log. Only `due_at` is not: leases are this service's own, and a lost one costs another attempt.
CREATE TABLE results_processing (
    job_id uuid PRIMARY KEY,
    run bigint NOT NULL,
    label text NOT NULL,
    owner text NOT NULL,
    attempt bigint NOT NULL, -- the latest that was handed out, or heard of
    due_at timestamptz NOT NULL DEFAULT '-infinity' -- from when on a worker may be given it
);
CREATE INDEX results_processing_by_label ON results_processing (left(label, 256), due_at, job_id);

-- Lists: more orders, filters on properties, and totals that nobody has to count.

-- Jobs by the time of their last run. A job that has none is in neither index, and in neither list.
CREATE INDEX jobs_by_completion ON jobs (completion_time, job_id) WHERE NOT deleted AND completion_time IS NOT NULL;
CREATE INDEX jobs_by_label_completion ON jobs (left(label, 256), completion_time, job_id) WHERE NOT deleted AND completion_time IS NOT NULL;
CREATE INDEX jobs_by_owner_completion ON jobs (left(owner, 256), completion_time, job_id) WHERE NOT deleted AND completion_time IS NOT NULL;
CREATE INDEX jobs_by_label_owner_completion ON jobs (left(label, 256), left(owner, 256), completion_time, job_id)
    WHERE NOT deleted AND completion_time IS NOT NULL;
CREATE INDEX jobs_by_execution ON jobs (execute_time, job_id) WHERE NOT deleted AND execute_time IS NOT NULL;
CREATE INDEX jobs_by_label_execution ON jobs (left(label, 256), execute_time, job_id) WHERE NOT deleted AND execute_time IS NOT NULL;
CREATE INDEX jobs_by_owner_execution ON jobs (left(owner, 256), execute_time, job_id) WHERE NOT deleted AND execute_time IS NOT NULL;
CREATE INDEX jobs_by_label_owner_execution ON jobs (left(label, 256), left(owner, 256), execute_time, job_id)
    WHERE NOT deleted AND execute_time IS NOT NULL;

-- One direction for all of an index's columns, so that it gives the order by status too.
DROP INDEX jobs_by_status;
DROP INDEX jobs_by_label_owner_status;
CREATE INDEX jobs_by_status ON jobs (status, creation_time, job_id) WHERE NOT deleted;
CREATE INDEX jobs_by_label_status ON jobs (left(label, 256), status, creation_time, job_id) WHERE NOT deleted;
CREATE INDEX jobs_by_owner_status ON jobs (left(owner, 256), status, creation_time, job_id) WHERE NOT deleted;
CREATE INDEX jobs_by_label_owner_status ON jobs (left(label, 256), left(owner, 256), status, creation_time, job_id) WHERE NOT deleted;

-- What does not change with a job's status, beside the row that does: its indexes are dear, and here they are written once.
CREATE TABLE job_search (
    job_id uuid PRIMARY KEY,
    label text NOT NULL,
    owner text NOT NULL,
    name text NOT NULL,
    properties jsonb NOT NULL -- `extended_properties` to search in; `jobs` has their text as it was sent
);
CREATE INDEX job_search_by_name ON job_search (lower(left(name, 128)) COLLATE "C", job_id);
CREATE INDEX job_search_by_label_name ON job_search (left(label, 256), lower(left(name, 128)) COLLATE "C", job_id);
CREATE INDEX job_search_by_owner_name ON job_search (left(owner, 256), lower(left(name, 128)) COLLATE "C", job_id);
CREATE INDEX job_search_by_properties ON job_search USING gin (properties jsonb_path_ops);

-- How many jobs there are. A partition's counts are written by the one who has it, so writers never wait for one another.
CREATE TABLE job_counts (
    kind text NOT NULL, -- any: of everybody; owner, group: of the one that is named
    name text NOT NULL,
    label text NOT NULL, -- of kind any also the empty one: of all apps
    status text NOT NULL,
    partition integer NOT NULL,
    jobs bigint NOT NULL
);
CREATE UNIQUE INDEX job_counts_by_name ON job_counts (kind, left(name, 256), left(label, 256), md5(name), md5(label), status, partition);

INSERT INTO job_search SELECT job_id, label, owner, name, extended_properties::jsonb FROM jobs WHERE NOT deleted;
INSERT INTO job_counts
SELECT k.kind, k.name, k.label, j.status, j.partition, count(*)
FROM jobs j CROSS JOIN LATERAL (
    SELECT 'any' AS kind, '' AS name, '' AS label
    UNION ALL SELECT 'any', '', j.label
    UNION ALL SELECT 'owner', j.owner, j.label
    UNION ALL SELECT 'group', g.name, j.label FROM (SELECT DISTINCT unnest(j.groups) AS name) g
) k
WHERE NOT j.deleted
GROUP BY 1, 2, 3, 4, 5;

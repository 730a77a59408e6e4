-- Lists have their statements in `listing.py`. The pool that reads plans every execution with its values
-- (plan_cache_mode=force_custom_plan), so a prepared statement never falls into the generic plan, which for an owner of many jobs sorts
-- them all. Indexes hold the first 256 characters of names, so each name is compared twice.

-- name: job
-- One job, deleted or not.
SELECT j.*, j.job_id::text AS id FROM jobs j WHERE j.job_id = $1

-- name: jobs
-- Several jobs, deleted or not.
SELECT j.*, j.job_id::text AS id FROM jobs j WHERE j.job_id = ANY ($1::uuid[])

-- name: verdicts
-- What the fold said of the events at several positions.
SELECT h.partition, h.log_offset, h.outcome, h.reason FROM unnest($1::integer[], $2::bigint[]) AS r (partition, log_offset)
JOIN history h USING (partition, log_offset)

-- name: verdict
-- What the fold said of the event at a position, and the type and job it is about.
SELECT outcome, reason, type, job_id::text AS job_id FROM history WHERE partition = $1 AND log_offset = $2

-- name: first_verdict
-- What the fold said of an event when it came for the first time.
SELECT outcome, reason FROM history WHERE job_id = $1 AND source = $2 AND event_id = $3 ORDER BY version LIMIT 1

-- name: history_newest
-- A page of a job's history, newest first, from below a version.
SELECT h.*, h.job_id::text AS id FROM history h WHERE h.job_id = $1 AND h.version < $2 ORDER BY h.version DESC LIMIT $3

-- name: history_oldest
-- A page of a job's history, oldest first, from above a version.
SELECT h.*, h.job_id::text AS id FROM history h WHERE h.job_id = $1 AND h.version > $2 ORDER BY h.version LIMIT $3

-- name: feed_of_partition
-- A partition's events between two offsets (the first within, the second not) with what rights need, in the log's order.
SELECT h.partition, h.log_offset, h.job_id::text AS job_id, h.type, h.status, h.status_text, h.status_message, h.progress, h.run,
       h.outcome, h.reason, h.occurred_at, h.recorded_at, j.owner, j.groups,
       CASE WHEN h.type = 'NodeStatusChanged' THEN h.data -> 'nodes' END AS nodes
FROM history h LEFT JOIN jobs j USING (job_id)
WHERE h.partition = $1 AND h.log_offset >= $2 AND h.log_offset < $3 ORDER BY h.log_offset LIMIT $4

-- name: feed_of_job
-- One job's events between two offsets of its partition (the first within, the second not), in order.
SELECT h.partition, h.log_offset, h.job_id::text AS job_id, h.type, h.status, h.status_text, h.status_message, h.progress, h.run,
       h.outcome, h.reason, h.occurred_at, h.recorded_at, j.owner, j.groups,
       CASE WHEN h.type = 'NodeStatusChanged' THEN h.data -> 'nodes' END AS nodes
FROM history h LEFT JOIN jobs j USING (job_id)
WHERE h.job_id = $1 AND h.log_offset >= $2 AND h.log_offset < $3 ORDER BY h.version LIMIT $4

-- name: usable_schedulers
-- The schedulers that a job may name, with their types.
SELECT name, type, health FROM schedulers WHERE usable ORDER BY name

-- name: upsert_jobs
-- Put the jobs of a batch where they now stand.
INSERT INTO jobs (job_id, version, partition, log_offset, name, description, owner, groups, label, job_type, status, status_text,
    status_message, progress, run, desired, scheduler, scheduler_job_ref, exit_code, exit_signal, restarts, resources, workspace, extended_properties,
    condor, dask, workflow, process_results_function, processing_attempt, processing, creation_time, execute_time, start_time, completion_time, deleted)
SELECT r.job_id, r.version, r.partition, r.log_offset, r.name, r.description, r.owner,
    ARRAY(SELECT json_array_elements_text(r.groups::json)), r.label, r.job_type, r.status, r.status_text,
    r.status_message, r.progress, r.run, r.desired, r.scheduler, r.scheduler_job_ref, r.exit_code, r.exit_signal, r.restarts, r.resources::json, r.workspace,
    r.extended_properties::json, r.condor::json, r.dask::json, r.workflow::json,
    r.process_results_function, r.processing_attempt, r.processing, r.creation_time, r.execute_time, r.start_time, r.completion_time, r.deleted
FROM unnest($1::uuid[], $2::bigint[], $3::integer[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::text[], $13::text[], $14::double precision[], $15::bigint[], $16::text[], $17::text[], $18::text[], $19::bigint[],
    $20::bigint[], $21::bigint[], $22::text[], $23::text[], $24::text[], $25::text[], $26::text[], $27::text[], $28::text[],
    $29::bigint[], $30::boolean[], $31::timestamptz[], $32::timestamptz[], $33::timestamptz[], $34::timestamptz[], $35::boolean[])
    AS r (job_id, version, partition, log_offset, name, description, owner, groups, label, job_type, status, status_text,
    status_message, progress, run, desired, scheduler, scheduler_job_ref, exit_code, exit_signal, restarts, resources, workspace, extended_properties,
    condor, dask, workflow, process_results_function, processing_attempt, processing, creation_time, execute_time, start_time, completion_time, deleted)
ON CONFLICT (job_id) DO UPDATE SET (version, partition, log_offset, name, description, owner, groups, label, job_type, status, status_text,
    status_message, progress, run, desired, scheduler, scheduler_job_ref, exit_code, exit_signal, restarts, resources, workspace, extended_properties,
    condor, dask, workflow, process_results_function, processing_attempt, processing, creation_time, execute_time, start_time, completion_time, deleted)
    = ROW (excluded.version, excluded.partition, excluded.log_offset, excluded.name, excluded.description, excluded.owner,
    excluded.groups, excluded.label, excluded.job_type, excluded.status, excluded.status_text, excluded.status_message,
    excluded.progress, excluded.run, excluded.desired, excluded.scheduler, excluded.scheduler_job_ref, excluded.exit_code,
    excluded.exit_signal, excluded.restarts, excluded.resources, excluded.workspace, excluded.extended_properties, excluded.condor, excluded.dask, excluded.workflow,
    excluded.process_results_function, excluded.processing_attempt, excluded.processing, excluded.creation_time,
    excluded.execute_time, excluded.start_time, excluded.completion_time, excluded.deleted)
WHERE jobs.version < excluded.version

-- name: insert_history
-- Add a batch's events to the history; one that is there already stays as it is.
INSERT INTO history (partition, log_offset, job_id, version, event_id, source, type, type_version, actor, occurred_at, recorded_at,
    correlation_id, causation_id, traceparent, run, outcome, reason, status, status_text, status_message, progress, data)
SELECT partition, log_offset, job_id, version, event_id, source, type, type_version, actor, occurred_at, recorded_at,
    correlation_id, causation_id, traceparent, run, outcome, reason, status, status_text, status_message, progress, data::json
FROM unnest($1::integer[], $2::bigint[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::text[],
    $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::text[], $17::text[], $18::text[],
    $19::text[], $20::text[], $21::double precision[], $22::text[])
    AS r (partition, log_offset, job_id, version, event_id, source, type, type_version, actor, occurred_at, recorded_at,
    correlation_id, causation_id, traceparent, run, outcome, reason, status, status_text, status_message, progress, data)
ON CONFLICT (partition, log_offset) DO NOTHING

-- name: clear_shares
-- Forget which groups may see these jobs, before it is said anew.
DELETE FROM job_groups WHERE job_id = ANY ($1::uuid[])

-- name: insert_shares
-- Say which groups may see which jobs.
INSERT INTO job_groups (job_id, group_name, creation_time)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[])

-- name: clear_search
-- Forget what lists are searched by of these jobs, before it is said anew.
DELETE FROM job_search WHERE job_id = ANY ($1::uuid[])

-- name: insert_search
-- Say what lists are searched by.
INSERT INTO job_search (job_id, label, owner, name, properties)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[])

-- name: add_counts
-- Count jobs where they now stand.
INSERT INTO job_counts (kind, name, label, status, partition, jobs)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[])
ON CONFLICT (kind, left(name, 256), left(label, 256), md5(name), md5(label), status, partition)
DO UPDATE SET jobs = job_counts.jobs + excluded.jobs

-- name: counts
-- How many jobs of a kind and name, in one app or in all, have which status.
SELECT status, sum(jobs)::bigint AS jobs FROM job_counts
WHERE kind = $1 AND left(name, 256) = left($2::text, 256) AND name = $2
  AND ($3::text IS NULL OR (left(label, 256) = left($3, 256) AND label = $3))
GROUP BY status HAVING sum(jobs) > 0

-- name: upsert_schedulers
-- Put schedulers where they now stand.
INSERT INTO schedulers (name, type, health, usable)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[])
ON CONFLICT (name) DO UPDATE SET type = excluded.type, health = excluded.health, usable = excluded.usable

-- name: known_nodes
-- The rows of the nodes that a batch's reports name.
SELECT n.*, n.job_id::text AS id FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS r (job_id, run, name)
JOIN job_nodes n ON n.job_id = r.job_id AND n.run = r.run AND left(n.name, 256) = left(r.name, 256) AND md5(n.name) = md5(r.name)

-- name: known_counts
-- How many nodes these jobs have in each status, where any was reported.
SELECT job_id::text AS id, node_counts FROM jobs WHERE job_id = ANY ($1::uuid[]) AND node_counts IS NOT NULL

-- name: upsert_nodes
-- Put the nodes of a batch where they now stand.
INSERT INTO job_nodes (job_id, run, name, number, status, restarts, scheduler_job_ref, exit_code, exit_signal, message, start_time,
    completion_time)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::integer[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[],
    $10::text[], $11::timestamptz[], $12::timestamptz[])
ON CONFLICT (job_id, run, number) DO UPDATE SET (status, restarts, scheduler_job_ref, exit_code, exit_signal, message, start_time,
    completion_time) = ROW (excluded.status, excluded.restarts, excluded.scheduler_job_ref, excluded.exit_code, excluded.exit_signal,
    excluded.message, excluded.start_time, excluded.completion_time)

-- name: save_counts
-- Say how many nodes of which status jobs have.
UPDATE jobs SET node_counts = r.node_counts::json FROM unnest($1::uuid[], $2::text[]) AS r (job_id, node_counts)
WHERE jobs.job_id = r.job_id

-- name: nodes
-- A page of a run's nodes behind a number, in the workflow's order.
SELECT * FROM job_nodes WHERE job_id = $1 AND run = $2 AND ($3::text[] IS NULL OR status = ANY ($3)) AND number > $4
ORDER BY number LIMIT $5

-- name: count_nodes
-- How many nodes of a run have which status.
SELECT status, count(*) AS count FROM job_nodes WHERE job_id = $1 AND run = $2 GROUP BY status

-- name: upsert_waiting
-- Put the runs whose results wait where the log has them. A lease stays; of another run there is none yet.
INSERT INTO results_processing AS known (job_id, run, label, owner, attempt)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (job_id) DO UPDATE SET run = excluded.run,
    attempt = CASE WHEN known.run = excluded.run THEN greatest(known.attempt, excluded.attempt) ELSE excluded.attempt END,
    due_at = CASE WHEN known.run = excluded.run THEN known.due_at ELSE '-infinity' END

-- name: remove_waiting
-- Let go of the jobs whose results wait no more.
DELETE FROM results_processing WHERE job_id = ANY ($1::uuid[])

-- name: claim_waiting
-- Give at most `$3` runs of an app that are due, of one owner's if `$2` is not null, of one job's if `$4` is not null, to one who asks, for `$5` seconds.
UPDATE results_processing w SET attempt = w.attempt + 1, due_at = now() + make_interval(secs => $5)
FROM (
    SELECT job_id FROM results_processing
    WHERE left(label, 256) = left($1, 256) AND label = $1 AND due_at <= now() AND ($2::text IS NULL OR owner = $2)
      AND ($4::uuid IS NULL OR job_id = $4)
    ORDER BY due_at, job_id LIMIT $3 FOR UPDATE SKIP LOCKED
) due
WHERE w.job_id = due.job_id RETURNING w.job_id::text AS job_id, w.run, w.attempt

-- name: lease_waiting
-- Keep others away from a run for so many seconds, if the attempt is still the latest.
UPDATE results_processing SET due_at = now() + make_interval(secs => $4) WHERE job_id = $1 AND run = $2 AND attempt = $3 RETURNING attempt

-- name: return_waiting
-- Take back an attempt that nobody was told of.
UPDATE results_processing SET attempt = attempt - 1, due_at = now() + interval '1 second' WHERE job_id = $1 AND run = $2 AND attempt = $3

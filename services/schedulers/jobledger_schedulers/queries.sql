-- name: begin_runs
-- Adds runs that were asked for; a run that is there stays as it is.
insert into runs (run_id, job_id, run, scheduler, created, asked_at, desired_at, correlation_id, causation_id, traceparent)
select run_id, job_id, run, scheduler, created, asked_at, asked_at, correlation_id, causation_id, traceparent
from unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::bytea[], $6::timestamptz[], $7::text[], $8::text[], $9::text[])
    as t (run_id, job_id, run, scheduler, created, asked_at, correlation_id, causation_id, traceparent)
on conflict (run_id) do nothing;

-- name: want
-- Says what is wanted of runs from now on.
update runs set desired = t.desired, desired_at = t.at
from unnest($1::text[], $2::text[], $3::timestamptz[]) as t (run_id, desired, at)
where runs.run_id = t.run_id;

-- name: reported_by_us
-- Takes over what the log has of our own reports where the row does not know it: after a rebuild from the log.
update runs set
    ref = case when runs.ref = '' then t.ref else runs.ref end,
    phase = case
        when t.over then 'ended'
        when t.ref <> '' and runs.phase = 'asked' then 'placed'
        else runs.phase
    end,
    reported_at = greatest(runs.reported_at, t.at),
    ended_at = case when t.over then coalesce(runs.ended_at, t.at) else runs.ended_at end
from unnest($1::text[], $2::text[], $3::boolean[], $4::timestamptz[]) as t (run_id, ref, over, at)
where runs.run_id = t.run_id and runs.phase <> 'ended'
    and (t.over or (t.ref <> '' and (runs.phase = 'asked' or runs.ref = '')));

-- name: save_scheduler
-- Puts a scheduler's row where its stream stands; an older state never overwrites a newer one.
insert into schedulers (name, registered, version, state, health) values ($1, $2, $3, $4, $5)
on conflict (name) do update set
    registered = excluded.registered, version = excluded.version, state = excluded.state, health = excluded.health
where schedulers.version < excluded.version;

-- name: schedulers
-- All schedulers with the stamp and the fields of their credentials, removed ones as well.
select s.*, c.revision, coalesce(c.fields, '{}') as secret_fields
from schedulers s left join credentials c on c.scheduler = s.name
order by s.name;

-- name: scheduler
-- One of them.
select s.*, c.revision, coalesce(c.fields, '{}') as secret_fields
from schedulers s left join credentials c on c.scheduler = s.name
where s.name = $1;

-- name: page_of_schedulers
-- Registered schedulers after a name, in the order of names.
select s.*, c.revision, coalesce(c.fields, '{}') as secret_fields
from schedulers s left join credentials c on c.scheduler = s.name
where s.registered and s.name > $1
order by s.name limit $2;

-- name: lock_scheduler
-- Lets one request at a time change a scheduler's registration; held by the connection.
select pg_advisory_lock(hashtextextended('jobledger.scheduler:' || $1, 0));

-- name: unlock_scheduler
-- Gives that up.
select pg_advisory_unlock(hashtextextended('jobledger.scheduler:' || $1, 0));

-- name: save_credentials
-- Stores the sealed credentials of a scheduler.
insert into credentials (scheduler, revision, fields, sealed) values ($1, $2, $3, $4)
on conflict (scheduler) do update set
    revision = excluded.revision, fields = excluded.fields, sealed = excluded.sealed, changed_at = now();

-- name: all_credentials
-- What is sealed for every scheduler.
select scheduler, sealed from credentials order by scheduler;

-- name: reseal
-- Puts the same credentials there under another key, unless they were changed in between; what was made for them stays good.
update credentials set sealed = $3 where scheduler = $1 and sealed = $2 returning scheduler;

-- name: credentials
-- The sealed credentials of a scheduler.
select revision, fields, sealed from credentials where scheduler = $1;

-- name: delete_credentials
-- Forgets them.
delete from credentials where scheduler = $1;

-- name: count_live_runs
-- How many runs a scheduler has that are not reported to be over.
select count(*) from runs where scheduler = $1 and phase <> 'ended';

-- name: count_placed_runs
-- How many runs a scheduler has, or may have, that have not ended there.
select count(*) from runs where scheduler = $1 and (phase = 'placed' or (phase = 'asked' and submit_begun_at is not null));

-- name: lanes_with_work
-- The schedulers that have runs to look after, or effects to carry out.
select scheduler as lane from runs where phase <> 'ended'
union
select lane from effects where status = 'open';

-- name: hold_lanes
-- Takes over lanes that nobody holds, that an earlier life of this instance held, or whose holder is gone; prolongs those that are ours.
insert into lanes (lane, holder, incarnation, lease_until)
select lane, $2, $3, now() + make_interval(secs => $4) from unnest($1::text[]) as t (lane) order by lane
on conflict (lane) do update set
    holder = excluded.holder, incarnation = excluded.incarnation, lease_until = excluded.lease_until
where lanes.incarnation = excluded.incarnation or (lanes.holder = excluded.holder and $5) or lanes.lease_until < now()
returning lane;

-- name: leave_lanes
-- Lets go of all lanes of this process.
delete from lanes where incarnation = $1;

-- name: reopen_lane
-- Makes what a predecessor had in its hands due at once; each of them then counts as tried before.
update effects set due_at = now() where lane = $1 and status = 'open' and due_at > now();

-- name: runs
-- Runs by their ids.
select * from runs where run_id = any($1::text[]);

-- name: created
-- What runs are to do.
select run_id, created from runs where run_id = any($1::text[]);

-- name: live_runs
-- The runs of a scheduler in one phase, oldest first.
select run_id, job_id, run, scheduler, desired, asked_at, desired_at, correlation_id, causation_id, traceparent, phase, ref, submit_begun_at,
    stop_sent_at, seen, reports, reported_at, missing_since, missing_looks
from runs where scheduler = $1 and phase = $2
order by asked_at, run_id limit $3;

-- name: forgotten_runs
-- Runs that were to be handed over a while ago and have nobody who does it: no open effect.
select runs.run_id from runs
where scheduler = $1 and phase = 'asked' and asked_at < now() - make_interval(secs => $2)
    and not exists (select from effects where effects.key = 'submit:' || runs.run_id and status = 'open')
order by asked_at limit $3;

-- name: begin_submission
-- Notes that the scheduler is about to be asked to take these runs; from now on it may have them.
update runs set submit_begun_at = coalesce(submit_begun_at, now()) where run_id = any($1::text[]);

-- name: place
-- Records the handles of runs that a scheduler has taken.
update runs set ref = t.ref, phase = 'placed', seen = coalesce(runs.seen, t.seen)
from unnest($1::text[], $2::text[], $3::bytea[]) as t (run_id, ref, seen)
where runs.run_id = t.run_id and runs.phase = 'asked';

-- name: stop_sent
-- Notes that the scheduler was told to end these runs.
update runs set stop_sent_at = now() where run_id = any($1::text[]);

-- name: reported
-- Remembers what was said of runs, once the log has it.
update runs set seen = t.seen, reports = runs.reports + 1, reported_at = t.at, missing_since = null, missing_looks = 0
from unnest($1::text[], $2::bytea[], $3::timestamptz[]) as t (run_id, seen, at)
where runs.run_id = t.run_id;

-- name: begin_again
-- Puts runs that their scheduler has lost back to where they are to be handed over.
update runs set phase = 'asked', submit_begun_at = null, seen = t.seen, reports = runs.reports + 1, reported_at = t.at,
    missing_since = null, missing_looks = 0
from unnest($1::text[], $2::bytea[], $3::timestamptz[]) as t (run_id, seen, at)
where runs.run_id = t.run_id and runs.phase = 'placed';

-- name: missed
-- Remembers which runs a look could not find, and since when.
update runs set missing_since = t.since, missing_looks = t.looks
from unnest($1::text[], $2::timestamptz[], $3::int[]) as t (run_id, since, looks)
where runs.run_id = t.run_id;

-- name: found_again
-- Forgets that runs were missing.
update runs set missing_since = null, missing_looks = 0 where run_id = any($1::text[]) and missing_looks > 0;

-- name: begin_collection
-- Notes how runs ended; their output is to be collected before it is told.
update runs set phase = 'collecting', ending = t.ending, ending_evidence = t.evidence, collect_after = now()
from unnest($1::text[], $2::bytea[], $3::bytea[]) as t (run_id, ending, evidence)
where runs.run_id = t.run_id and runs.phase = 'placed';

-- name: to_collect
-- Runs of a scheduler whose output is to be collected now.
select * from runs
where scheduler = $1 and phase = 'collecting' and collect_after <= now()
order by collect_after limit $2;

-- name: collect_later
-- Puts a collection off.
update runs set collect_attempts = collect_attempts + 1, collect_after = now() + make_interval(secs => $2) where run_id = $1;

-- name: ended
-- Nothing remains to be done about these runs.
update runs set phase = 'ended', ended_at = coalesce(ended_at, now()) where run_id = any($1::text[]) and phase <> 'ended';

-- name: run_nodes
-- What was told of the nodes of runs.
select run_id, node, told, state from run_nodes where run_id = any($1::text[]);

-- name: nodes_told
-- Remembers what was told of a run's nodes, once the log has it.
insert into run_nodes (run_id, node, told, state)
select $1, t.node, t.told, t.state from unnest($2::text[], $3::int[], $4::bytea[]) as t (node, told, state)
on conflict (run_id, node) do update set told = excluded.told, state = excluded.state;

-- name: forget_nodes
-- Forgets the nodes of runs that are over.
delete from run_nodes where run_id = any($1::text[]);

-- name: save_setting
-- Stores the folded stream of what an app needs.
insert into settings (label, name, declared, scheduler, version, state) values ($1, $2, $3, $4, $5, $6)
on conflict (label, name) do update set
    declared = excluded.declared, scheduler = excluded.scheduler, version = excluded.version, state = excluded.state;

-- name: page_of_settings
-- What apps need, after a label and name, each with the scheduler that it says it has.
select settings.state, schedulers.state as scheduler_state
from settings left join schedulers on schedulers.name = settings.scheduler
where settings.declared and (settings.label, settings.name) > ($1, $2)
order by settings.label, settings.name limit $3;

-- name: settings_of
-- What one app needs.
select settings.state, schedulers.state as scheduler_state
from settings left join schedulers on schedulers.name = settings.scheduler
where settings.declared and settings.label = $1
order by settings.name;

-- name: setting
-- One of those.
select settings.state, schedulers.state as scheduler_state
from settings left join schedulers on schedulers.name = settings.scheduler
where settings.declared and settings.label = $1 and settings.name = $2;

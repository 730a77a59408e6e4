-- The schedulers service: which schedulers there are, how to get into them, and the runs that they have.

-- A projection of the topic of schedulers: made anew from the log at any time.
create table schedulers (
    name text primary key,
    registered boolean not null,  -- false: it was removed
    version bigint not null,  -- events folded
    state bytea not null,  -- the folded stream, as JSON
    health text not null  -- for people who look here: up, degraded, down, unknown
);

-- Owned by this service, and NOT in the log: secrets never are. Losing this table means registering the credentials again.
create table credentials (
    scheduler text primary key,
    revision uuid not null,  -- another one after each change, so that connections are made anew
    fields text[] not null,  -- which secrets are set
    sealed bytea not null,
    changed_at timestamptz not null default now()
);

-- The upper half follows from the topic of jobs. The lower half is what this service saw and did.
create table runs (
    run_id text primary key,
    job_id text not null,
    run int not null,
    scheduler text not null,
    created bytea not null,  -- what to run: the contract JobCreated as JSON, as it stood when the run was asked for
    desired text not null default 'run' check (desired in ('run', 'pause', 'stop')),
    asked_at timestamptz not null,
    desired_at timestamptz not null,
    correlation_id text not null,
    causation_id text not null,
    traceparent text not null,

    phase text not null default 'asked' check (phase in ('asked', 'placed', 'collecting', 'ended')),
    ref text not null default '',  -- the scheduler's own id of the run
    submit_begun_at timestamptz,  -- null: the scheduler was never asked to take it
    stop_sent_at timestamptz,
    seen bytea,  -- the last look that was reported, as JSON
    reports int not null default 0,
    reported_at timestamptz,
    missing_since timestamptz,
    missing_looks int not null default 0,
    ending bytea,  -- how it ended, as JSON, while its output is collected
    ending_evidence bytea,
    collect_attempts int not null default 0,
    collect_after timestamptz,
    ended_at timestamptz
) with (fillfactor = 70);

create index runs_live on runs (scheduler, phase) where phase <> 'ended';

-- Who looks after a scheduler: one instance at a time.
create table lanes (
    lane text primary key,
    holder text not null,  -- the instance, by its name that outlives a restart
    incarnation text not null,  -- the process
    lease_until timestamptz not null
) with (fillfactor = 50);

-- The ledger: how far each consumer has come, what its streams have become, what it could not fold, and what it still has to do.

create table checkpoints (
    consumer text not null,
    topic text not null,
    partition int not null,
    next_offset bigint not null check (next_offset >= 0),
    epoch bigint not null,  -- whose turn it is to write: each claim adds one, and a write under an older one fails
    claimed_at timestamptz not null default now(),
    primary key (consumer, topic, partition)
) with (fillfactor = 50);

create table streams (
    consumer text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    state bytea,  -- JSON as the fold writes it; null: nothing was folded yet, the stream is only parked
    parked_behind bigint,  -- offset of the dead letter that later events wait behind; null: not parked
    primary key (consumer, topic, key)
) with (fillfactor = 70);

create index streams_parked on streams (consumer, topic, key) where parked_behind is not null;

create table dead_letters (
    consumer text not null,
    topic text not null,
    partition int not null,
    log_offset bigint not null,
    key bytea,
    value bytea,
    headers bytea not null,  -- MessagePack: [[name, value or null], ...], both as bytes
    reason text not null,
    detail text not null,
    recorded_at timestamptz not null,  -- the broker's time of the record
    buried_at timestamptz not null default now(),
    resolution text,  -- null: open; else what a person decided
    resolved_by text,
    resolved_at timestamptz,
    primary key (consumer, topic, partition, log_offset)
);

create index dead_letters_key on dead_letters using hash (key);  -- a hash, because a strange key may be too long for a tree
create index dead_letters_open on dead_letters (consumer, topic, partition, log_offset) where resolution is null;

create table effects (
    position bigint generated always as identity primary key,  -- the order in which effects were asked for
    key text not null unique,
    lane text not null,
    stream text not null,
    kind text not null,
    payload bytea not null,
    status text not null default 'open' check (status in ('open', 'done', 'failed')),
    attempt int not null default 0,
    due_at timestamptz not null default now(),  -- not before: the end of a lease, or of the wait after a failed attempt
    error text not null default '',
    recorded_at timestamptz not null default now(),
    ended_at timestamptz
) with (fillfactor = 80);

create index effects_open_of_stream on effects (stream, position) where status = 'open';
create index effects_open on effects (due_at, position) where status = 'open';
create index effects_open_of_lane on effects (lane, due_at, position) where status = 'open';
create index effects_failed on effects (position) where status = 'failed';

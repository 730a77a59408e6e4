-- name: claim
-- Takes partitions over: from now on no earlier owner can write. Locks in order, so that two claims cannot deadlock.
insert into checkpoints (consumer, topic, partition, next_offset, epoch)
select $1, c.topic, c.partition, 0, 1
from unnest($2::text[], $3::int[]) as c (topic, partition)
order by c.topic, c.partition
on conflict (consumer, topic, partition) do update set epoch = checkpoints.epoch + 1, claimed_at = now()
returning topic, partition, next_offset, epoch;

-- name: advance
-- The fence: moves checkpoints on, but only from where we expect them and under our own claims. Returns those that it moved.
update checkpoints as c set next_offset = w.next_offset
from unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[]) as w (topic, partition, epoch, expected, next_offset)
where c.consumer = $1 and c.topic = w.topic and c.partition = w.partition and c.epoch = w.epoch and c.next_offset = w.expected
returning c.topic, c.partition;

-- name: checkpoints
-- How far a consumer has come.
select topic, partition, next_offset, epoch from checkpoints where consumer = $1 order by topic, partition;

-- name: load
-- The states of some streams, and which of them are parked.
select s.topic, s.key, s.state, s.parked_behind
from unnest($2::text[], $3::text[]) as k (topic, key)
join streams s on s.consumer = $1 and s.topic = k.topic and s.key = k.key;

-- name: save
-- Stores the new states of streams.
insert into streams (consumer, topic, key, version, state)
select $1, s.topic, s.key, s.version, s.state
from unnest($2::text[], $3::text[], $4::bigint[], $5::bytea[]) as s (topic, key, version, state)
on conflict (consumer, topic, key) do update set version = excluded.version, state = excluded.state;

-- name: park
-- Notes behind which dead letter the later events of streams wait.
insert into streams (consumer, topic, key, version, parked_behind)
select $1, s.topic, s.key, 0, s.parked_behind
from unnest($2::text[], $3::text[], $4::bigint[]) as s (topic, key, parked_behind)
on conflict (consumer, topic, key) do update set parked_behind = excluded.parked_behind where streams.parked_behind is null;

-- name: bury
-- Stores dead letters, raw.
insert into dead_letters (consumer, topic, partition, log_offset, key, value, headers, reason, detail, recorded_at)
select $1, d.topic, d.partition, d.log_offset, d.key, d.value, d.headers, d.reason, d.detail, d.recorded_at
from unnest($2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[], $8::text[], $9::text[], $10::timestamptz[])
    as d (topic, partition, log_offset, key, value, headers, reason, detail, recorded_at);

-- name: record_effects
-- Notes what is to be done, in order; what was noted before stays as it is.
insert into effects (key, lane, stream, kind, payload)
select e.key, e.lane, e.stream, e.kind, e.payload
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[]) with ordinality as e (key, lane, stream, kind, payload, number)
order by e.number
on conflict (key) do nothing;

-- name: announce
-- Tells listeners, when the transaction commits, how far the checkpoints have come.
select pg_notify($1, payload) from unnest($2::text[]) as payload;

-- name: take
-- Leases due effects: of each stream only its oldest open one, and none that another worker is just taking.
update effects set attempt = attempt + 1, due_at = now() + make_interval(secs => $2)
where position in (
    select e.position from effects e
    where e.status = 'open' and e.due_at <= now()
        and ($3::text[] is null or e.lane = any ($3))
        and ($4::text[] is null or e.kind = any ($4))
        and not exists (select from effects earlier where earlier.stream = e.stream and earlier.position < e.position and earlier.status = 'open')
    order by e.due_at, e.position limit $1 for update skip locked)
returning position, key, lane, stream, kind, payload, attempt;

-- name: schedule
-- Records an effect that is due at a time, unless it was recorded before or its lane has as many open ones as it may have.
with room as (
    select count(*) < $7 as free from (select from effects where lane = $2 and status = 'open' limit $7) open
), recorded as (
    insert into effects (key, lane, stream, kind, payload, due_at)
    select $1, $2, $3, $4, $5, $6 from room where room.free
    on conflict (key) do nothing returning true
)
select room.free, exists (select from recorded) as recorded from room;

-- name: lanes
-- The lanes that have due effects: hops from lane to lane through the index.
with recursive hop (lane) as (
    (select lane from effects where status = 'open' order by lane limit 1)
    union all
    select (select e.lane from effects e where e.status = 'open' and e.lane > hop.lane order by e.lane limit 1) from hop where hop.lane is not null
)
select hop.lane from hop
where hop.lane is not null and exists (select from effects e where e.status = 'open' and e.lane = hop.lane and e.due_at <= now());

-- name: done
-- Ends effects well, if the attempts are still the latest ones.
update effects e set status = 'done', error = '', ended_at = now()
from unnest($1::bigint[], $2::int[]) as d (position, attempt)
where e.position = d.position and e.attempt = d.attempt and e.status = 'open'
returning e.key;

-- name: retry
-- Puts an effect off, with what went wrong, if the attempt is still the latest one; later effects of its stream wait as long, out of the way.
with head as (
    update effects set due_at = now() + make_interval(secs => $3), error = $4
    where position = $1 and attempt = $2 and status = 'open'
    returning stream, position, due_at
), behind as (
    update effects e set due_at = head.due_at from head
    where e.stream = head.stream and e.position > head.position and e.status = 'open'
)
select true from head;

-- name: give_up
-- Ends an effect badly, with why, if the attempt is still the latest one.
update effects set status = 'failed', error = $3, ended_at = now() where position = $1 and attempt = $2 and status = 'open' returning true;

-- name: free_stream
-- Lets the next effects of a stream be taken now.
update effects set due_at = now() where stream = $1 and status = 'open' and due_at > now() and attempt = 0;

-- name: failed
-- Effects that were given up, newest first, before a position.
select position, key, lane, stream, kind, attempt, error, recorded_at, ended_at from effects
where status = 'failed' and position < $1 order by position desc limit $2;

-- name: open_keys
-- Which of these effects are still open.
select key from effects where key = any ($1::text[]) and status = 'open';

-- name: count
-- How many effects are open in each lane.
select lane, count(*) as open from effects where status = 'open' group by lane;

-- name: page
-- Open dead letters of a consumer after a place in the log, in the log's order.
select topic, partition, log_offset, key, reason, detail, octet_length(value) as value_bytes, recorded_at, buried_at
from dead_letters
where ($1::text is null or consumer = $1) and ($2::text is null or reason = $2) and ($3::bytea is null or key = $3)
    and resolution is null and (topic, partition, log_offset) > ($4, $5, $6)
order by topic, partition, log_offset limit $7;

-- name: one
-- One dead letter, raw.
select topic, partition, log_offset, key, value, headers, reason, detail, recorded_at, buried_at
from dead_letters
where ($1::text is null or consumer = $1) and topic = $2 and partition = $3 and log_offset = $4
order by consumer limit 1;

-- name: count
-- How many open dead letters there are, by reason.
select reason, count(*) as letters from dead_letters where ($1::text is null or consumer = $1) and resolution is null group by reason;

-- name: parked
-- The parked streams, by name, after one.
select topic, key, parked_behind from streams
where ($1::text is null or consumer = $1) and parked_behind is not null and (topic, key) > ($2, $3)
order by topic, key limit $4;

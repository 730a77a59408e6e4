-- Schemas and tables cannot be parameters: {live}, {rebuilt}, {before}, {schema}, {table} and the like are put in by rebuild.py: names that stand
-- in our own code.

-- name: key_columns
-- The columns of a table's primary key, in their order; none when it has no such key.
select a.attname::text as name
from pg_index as i
join unnest(i.indkey) with ordinality as k (attnum, number) on true
join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = to_regclass($1) and i.indisprimary
order by k.number;

-- name: exists
-- Whether there is such a schema.
select exists (select from pg_namespace where nspname = $1);

-- name: checkpoints
-- How far a consumer has come.
select topic, partition, next_offset from "{schema}".checkpoints where consumer = $1 order by topic, partition;

-- name: lock_checkpoints
-- How far a consumer has come, and must not go on until this transaction ends.
select topic, partition, next_offset from "{schema}".checkpoints where consumer = $1 order by topic, partition for update;

-- name: known_letters
-- Which of these places hold dead letters in the live rows, and why.
select d.topic, d.partition, d.log_offset, d.reason
from "{live}".dead_letters as d
join unnest($2::text[], $3::int[], $4::bigint[]) as w (topic, partition, log_offset) using (topic, partition, log_offset)
where d.consumer = $1;

-- name: rows
-- The rows of a table in the order of their keys, each with a digest of all that is to be the same.
select {key} collate "C" as key, md5({content}) as digest from "{schema}"."{table}" as t order by 1, 2;

-- name: begin_anew
-- Makes a schema empty.
drop schema if exists "{schema}" cascade;
create schema "{schema}";

-- name: drop
-- Takes a schema away.
drop schema if exists "{schema}" cascade;

-- name: keep_checkpoints
-- Remembers the checkpoints that belong to the rows that are put aside.
create table "{before}".checkpoints as select * from "{live}".checkpoints;

-- name: keep_resolutions
-- What people decided about dead letters is in no log.
update "{rebuilt}".dead_letters as n
set buried_at = o.buried_at, resolution = o.resolution, resolved_by = o.resolved_by, resolved_at = o.resolved_at
from "{live}".dead_letters as o
where (n.consumer, n.topic, n.partition, n.log_offset) = (o.consumer, o.topic, o.partition, o.log_offset);

-- name: move
-- Moves a table, with its indexes, to another schema.
alter table "{schema}"."{table}" set schema "{target}";

-- name: fence
-- Whoever claimed partitions before can write no more.
update "{live}".checkpoints set epoch = epoch + 1 where consumer = $1;

-- name: go_back
-- Puts the checkpoints back to where they stood, and fences whoever claimed partitions since.
update "{live}".checkpoints as c set next_offset = b.next_offset, epoch = c.epoch + 1
from "{before}".checkpoints as b
where c.consumer = $1 and (c.consumer, c.topic, c.partition) = (b.consumer, b.topic, b.partition);

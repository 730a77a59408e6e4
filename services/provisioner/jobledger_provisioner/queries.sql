-- name: insert_history
-- The events of a batch. A batch is written once: the checkpoint sees to it.
insert into history (partition, log_offset, name, version, event_id, source, type, actor, occurred_at, recorded_at, outcome, reason, data)
select * from unnest(
    $1::int[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[],
    $10::timestamptz[], $11::text[], $12::text[], $13::json[]);

-- name: upsert_clusters
-- Each cluster as the batch left it.
insert into clusters (name, version, present, owner, provider, kind, size, desired, status, nodes, status_message, creation_time, deletion_time)
select * from unnest(
    $1::text[], $2::bigint[], $3::bool[], $4::text[], $5::text[], $6::text[], $7::int[], $8::text[], $9::text[], $10::int[], $11::text[],
    $12::timestamptz[], $13::timestamptz[])
on conflict (name) do update set
    version = excluded.version, present = excluded.present, owner = excluded.owner, provider = excluded.provider, kind = excluded.kind,
    size = excluded.size, desired = excluded.desired, status = excluded.status, nodes = excluded.nodes,
    status_message = excluded.status_message, creation_time = excluded.creation_time, deletion_time = excluded.deletion_time;

-- name: page
-- Clusters that are there, after a name, in the order of names; of one owner, or all.
select * from clusters where present and name > $1 and ($2::text is null or owner = $2) order by name limit $3;

-- name: cluster
-- One cluster, gone ones as well.
select * from clusters where name = $1;

-- name: history
-- The events of a cluster after one of its versions, oldest first.
select * from history where name = $1 and version > $2 order by version limit $3;

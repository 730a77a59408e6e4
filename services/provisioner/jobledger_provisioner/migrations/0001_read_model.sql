-- The read model of the provisioner service: rows that are made from the log alone and can be thrown away and made again.

create table clusters (
    name text primary key,
    version bigint not null,  -- events folded into this row
    present boolean not null,  -- asked for, and not seen to be gone
    owner text not null,
    provider text not null,
    kind text not null,
    size int not null,
    desired text not null,
    status text not null,
    nodes int not null,
    status_message text not null,
    creation_time timestamptz,
    deletion_time timestamptz
);

create index clusters_by_owner on clusters (owner, name) where present;

-- Every event that was folded, whatever its verdict.
create table history (
    partition int not null,
    log_offset bigint not null,
    name text not null,
    version bigint not null,
    event_id text not null,
    source text not null,
    type text not null,
    actor text not null,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    outcome text not null,
    reason text not null,
    data json not null,  -- the text as it was sent
    primary key (partition, log_offset)
);

create index history_by_name on history (name, version);

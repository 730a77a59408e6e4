-- The nodes of workflows' runs that go on, as they were last told; gone when the run has ended.
create table run_nodes (
    run_id text not null,
    node text not null,
    told int not null,  -- how often it was told of
    state bytea not null,  -- the contract Node as JSON
    primary key (run_id, node)
) with (fillfactor = 70);

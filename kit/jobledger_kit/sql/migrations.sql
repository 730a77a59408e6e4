-- name: lock
-- Lets one process at a time migrate a schema; ends with the transaction.
select pg_advisory_xact_lock(hashtextextended($1, 0));

-- name: schema_statement
-- The statement that makes the schema, with its name quoted by the server.
select format('create schema if not exists %I', $1::text);

-- name: search_path
-- Makes unqualified names mean this schema until the transaction ends.
select set_config('search_path', quote_ident($1), true);

-- name: table
-- Where applied files are remembered.
create table if not exists migrations (
    package text not null,
    name text not null,
    checksum bytea not null,
    applied_at timestamptz not null default now(),
    primary key (package, name)
);

-- name: applied
-- Every file that was applied.
select package, name, checksum from migrations;

-- name: remember
-- Notes that a file was applied.
insert into migrations (package, name, checksum) values ($1, $2, $3);

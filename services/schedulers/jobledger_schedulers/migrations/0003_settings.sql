-- The schedulers that apps need, and which ones they get. A projection of the topic of settings.
create table settings (
    label text not null,  -- the app's
    name text not null,
    declared boolean not null,  -- false: it was withdrawn
    scheduler text not null,  -- the one that is assigned; empty: none
    version bigint not null,  -- events folded
    state bytea not null,  -- the folded stream, as JSON
    primary key (label, name)
);

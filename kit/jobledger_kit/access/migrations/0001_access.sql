-- Who may use the services: users, the groups that they share jobs with, and their API keys.

create table users (
    name text primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$'),
    admin boolean not null default false,
    service boolean not null default false,  -- one of our services, or another machine's: acts for nobody in particular
    disabled boolean not null default false,
    created_at timestamptz not null default now()
);

create table memberships (
    user_name text not null references users on delete cascade,
    group_name text not null check (group_name ~ '^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$'),
    primary key (user_name, group_name)
);

create table api_keys (
    id text primary key,
    user_name text not null references users on delete cascade,
    digest bytea not null check (length(digest) = 32),  -- SHA-256 of the secret; the secret itself is nowhere
    label text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

create index api_keys_user on api_keys (user_name, created_at);

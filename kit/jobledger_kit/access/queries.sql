-- name: find_key
-- A key that may be used now, with its user's rights.
select k.id, k.digest, k.expires_at, u.name, u.admin, u.service,
       array(select m.group_name from access.memberships m where m.user_name = u.name order by 1) as groups
from access.api_keys k
join access.users u on u.name = k.user_name
where k.id = $1 and k.revoked_at is null and not u.disabled and (k.expires_at is null or k.expires_at > $2);

-- name: put_user
-- Creates a user, or sets the rights of one that exists.
insert into access.users (name, admin, service) values ($1, $2, $3)
on conflict (name) do update set admin = excluded.admin, service = excluded.service, disabled = false;

-- name: clear_groups
-- Takes a user out of the groups that are not in the list.
delete from access.memberships where user_name = $1 and group_name <> all($2::text[]);

-- name: add_groups
-- Puts a user into groups.
insert into access.memberships (user_name, group_name) select $1, unnest($2::text[]) on conflict do nothing;

-- name: disable_user
-- Shuts a user out; what the user owns stays.
update access.users set disabled = true where name = $1 returning name;

-- name: list_users
-- Users by name, after a name.
select u.name, u.admin, u.service, u.disabled, u.created_at,
       array(select m.group_name from access.memberships m where m.user_name = u.name order by 1) as groups
from access.users u where u.name > $1 order by u.name limit $2;

-- name: create_key
-- Adds a key for a user who exists and is not shut out.
insert into access.api_keys (id, user_name, digest, label, created_at, expires_at)
select $1, u.name, $3, $4, $5, $6 from access.users u where u.name = $2 and not u.disabled
returning id;

-- name: list_keys
-- Keys by user and age, of one user or of all, after a position in that order.
select id, user_name, label, created_at, expires_at, revoked_at from access.api_keys
where ($1::text is null or user_name = $1)
  and ($2::text is null or (user_name, created_at, id) > ($2, $3, $4))
order by user_name, created_at, id limit $5;

-- name: revoke_key
-- Ends a key; a key that has ended already keeps its time.
update access.api_keys set revoked_at = coalesce(revoked_at, $2)
where id = $1 and ($3::text is null or user_name = $3)
returning id, user_name, label, created_at, expires_at, revoked_at;

-- name: ping
-- Answers if the schema is there.
select 1 from access.users limit 1;

-- name: ensure_admin
-- Makes sure that an administrator of this name exists; keeps the groups of one that does.
insert into access.users (name, admin) values ($1, true)
on conflict (name) do update set admin = true, disabled = false;

-- name: is_disabled
-- One row if a user of this name is shut out.
select 1 from access.users where name = $1 and disabled;

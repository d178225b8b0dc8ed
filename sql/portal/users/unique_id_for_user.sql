create or replace function student.unique_id_for_user(user_id bigint, secret_key text)
returns text
language sql
stable
strict
set search_path = pg_catalog, pg_temp
-- The key's UTF-8 bytes, in a database of whatever encoding: links that were sent out stay valid.
return md5(convert_to(secret_key, 'UTF8') || convert_to(user_id::text, 'UTF8'));

revoke all on function student.unique_id_for_user(bigint, text) from public;
comment on function student.unique_id_for_user(bigint, text) is
    'Return the id that stands for a user in survey links: md5 of the secret key and the user''s id. '
    'The key is the caller''s to keep: pass it as a parameter, so that no log shows it.';

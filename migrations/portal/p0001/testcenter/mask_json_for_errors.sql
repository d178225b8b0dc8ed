create or replace function student.mask_json_for_errors(data json)
returns json
language sql
immutable
parallel safe
strict
set search_path = pg_catalog, pg_temp
return student.mask_json(
    regexp_replace(replace(data::text, '\\', '\u005c'), '\\u000[12]', '?', 'g'));

revoke all on function student.mask_json_for_errors(json) from public;
comment on function student.mask_json_for_errors(json) is
    'Mask JSON as student.mask_json does, but first write "?" for U+0001 and U+0002, so that these '
    'can only mean NUL and what is outside Latin-1.';

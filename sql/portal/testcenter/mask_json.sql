-- PostgreSQL's json functions fail on \u0000, on lone surrogates and, unless the encoding is UTF8, on
-- what it doesn't have; a form has to report these instead. Surrogates in pairs count as the one
-- character they stand for. With each \\ written as \u005c first, a backslash always starts an escape.
create or replace function student.mask_json(data text)
returns json
language sql
immutable
parallel safe
strict
set search_path = pg_catalog, pg_temp
return regexp_replace(
    replace(replace(data, '\\', '\u005c'), '\u0000', '\u0001'),
    '[^\u0001-\u00ff]|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u(?!00)....',
    '\\u0002',
    'g')::json;

revoke all on function student.mask_json(text) from public;
comment on function student.mask_json(text) is
    'Return JSON that every json function can read: NUL is replaced by U+0001, and each character '
    'outside Latin-1 by U+0002.';

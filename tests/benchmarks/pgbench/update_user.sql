-- A login: one user's update, the user at random.
\set id random(1, :users)
\set n random(1, 1000000)
update public.auth_user set last_login = now(), email = 'user' || :n::text || '@example.org' where id = :id;

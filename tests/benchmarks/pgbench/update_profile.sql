-- One profile's update, the user at random.
\set id random(1, :users)
\set n random(1, 1000000)
update public.auth_userprofile set goals = 'Goal ' || :n::text where user_id = :id;

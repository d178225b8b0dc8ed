-- One enrollment of a user in a course that it isn't in. Pairs are counted, each client has its own;
-- they begin at :first. Who is in three courses, from its own number on, comes into the fourth after
-- that when all users are in the third, and so on. 7919 is prime, so that users don't come in order.
\set pair :first + :done * :clients + :client_id
\set done :done + 1
\set id 1 + (:pair * 7919) % :users
\set course (:id + :members + :pair / :users) % :courses
insert into public.student_courseenrollment (user_id, course_id) values (:id, :stem || '/' || :course::text);

-- What a profile may say, in the order in which forms have offered it since 2012.
insert into student.gender (code, display_name, position) values
    ('m', 'Male', 1),
    ('f', 'Female', 2),
    ('o', 'Other', 3)
on conflict (code) do update
   set display_name = excluded.display_name,
       position = excluded.position;

insert into student.level_of_education (code, display_name, position) values
    ('p_se', 'Doctorate in science or engineering', 1),
    ('p_oth', 'Doctorate in another field', 2),
    ('m', 'Master''s or professional degree', 3),
    ('b', 'Bachelor''s degree', 4),
    ('hs', 'Secondary/high school', 5),
    ('jhs', 'Junior secondary/junior high/middle school', 6),
    ('el', 'Elementary/primary school', 7),
    ('none', 'None', 8),
    ('other', 'Other', 9)
on conflict (code) do update
   set display_name = excluded.display_name,
       position = excluded.position;

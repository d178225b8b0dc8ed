insert into student.accommodation_code (code, display_name)
values ('EQPMNT', 'Equipment'),
       ('ET12ET', 'Extra Time - 1/2 Exam Time'),
       ('ET30MN', 'Extra Time - 30 Minutes'),
       ('ETDBTM', 'Extra Time - Double Time'),
       ('SEPRMM', 'Separate Room'),
       ('SRREAD', 'Separate Room & Reader'),
       ('SRRERC', 'Separate Room & Reader/Recorder'),
       ('SRRECR', 'Separate Room & Recorder'),
       ('SRSEAN', 'Separate Room & Service Animal'),
       ('SRSGNR', 'Separate Room & Sign Lang Interp')
    on conflict (code) do update set display_name = excluded.display_name;

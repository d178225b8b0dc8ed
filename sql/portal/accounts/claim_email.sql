create or replace function student.claim_email(email text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- No constraint says that an address is one user's: whoever gives one out asks in turn. Of two
    -- transactions that insert one key the second waits for the first, though neither leaves a row. An
    -- advisory lock would do the same, but anybody who may connect can hold it.
    insert into student.email_claim (email) values (lower(claim_email.email));
    delete from student.email_claim as claim where claim.email = lower(claim_email.email);
end
$$;

revoke all on function student.claim_email(text) from public;
comment on function student.claim_email(text) is
    'Have others who give out this e-mail address, in whatever case, wait until this transaction ends.';

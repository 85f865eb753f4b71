-- Copyright: (c) 2026, flowaudit.ops maintainers
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
--
-- What trail.sql cannot take back: rights that somebody gave beside it. Each row is one; none is right.
SELECT format('%s has %s on trail.%s', coalesce(nullif(grantee, 0)::regrole::text, 'everybody'), privilege_type, relname) AS problem
  FROM pg_class, aclexplode(relacl)
  WHERE relnamespace = 'trail'::regnamespace AND grantee <> 'trail_owner'::regrole
    AND NOT (grantee IN ('trail_writer'::regrole, 'trail_auditor'::regrole) AND privilege_type = 'SELECT')
UNION ALL
SELECT format('%s has %s on a column of %s', coalesce(nullif(grantee, 0)::regrole::text, 'everybody'), privilege_type, attrelid::regclass)
  FROM pg_attribute, aclexplode(attacl)
  WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'trail'::regnamespace)
UNION ALL
SELECT format('%s may call %s', coalesce(nullif(grantee, 0)::regrole::text, 'everybody'), oid::regprocedure)
  FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
  WHERE pronamespace = 'trail'::regnamespace
    AND grantee NOT IN ('trail_owner'::regrole, 'trail_writer'::regrole, 'trail_auditor'::regrole)
UNION ALL
SELECT format('%s has %s on the schema trail', coalesce(nullif(grantee, 0)::regrole::text, 'everybody'), privilege_type)
  FROM pg_namespace, aclexplode(nspacl)
  WHERE nspname = 'trail' AND grantee <> 'trail_owner'::regrole
    AND NOT (grantee IN ('trail_writer'::regrole, 'trail_auditor'::regrole) AND privilege_type = 'USAGE')
UNION ALL
SELECT format('%s is a member of trail_owner', member::regrole)
  FROM pg_auth_members WHERE roleid = 'trail_owner'::regrole
UNION ALL
SELECT format('%s is a member of %s, and can do more than log in', member::regrole, roleid::regrole)
  FROM pg_auth_members JOIN pg_roles ON pg_roles.oid = member
  WHERE roleid IN ('trail_writer'::regrole, 'trail_auditor'::regrole)
    AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
UNION ALL
SELECT format('the trigger %s of %s is off', tgname, tgrelid::regclass)
  FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
  WHERE relnamespace = 'trail'::regnamespace AND NOT tgisinternal AND tgenabled <> 'A'
UNION ALL
SELECT format('the table %s has the trigger %s, which is not ours', tgrelid::regclass, tgname)
  FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
  WHERE relnamespace = 'trail'::regnamespace AND NOT tgisinternal
    AND tgname NOT IN ('stay', 'only_pruning', 'only_new_writer')
UNION ALL
SELECT format('the table trail.%s has the policy %s, which is not ours', tablename, policyname)
  FROM pg_policies WHERE schemaname = 'trail' AND policyname NOT IN ('auditors', 'writers');

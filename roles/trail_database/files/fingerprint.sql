-- Copyright: (c) 2026, flowaudit.ops maintainers
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
--
-- One hash over all that trail.sql makes, so that it can be told whether it has changed anything.
SELECT
  encode(sha256(convert_to(coalesce(string_agg(item, E'\n' ORDER BY item), ''), 'UTF8')), 'hex') AS fingerprint,
  (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('trail') AND relkind = 'r') AS tables
FROM (
  SELECT concat_ws(' ', 'database', datacl) FROM pg_database WHERE datname = current_database()
  UNION ALL
  SELECT concat_ws(' ', 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls)
    FROM pg_roles WHERE rolname IN ('trail_owner', 'trail_writer', 'trail_auditor')
  UNION ALL
  SELECT concat_ws(' ', 'schema', nspowner::regrole, nspacl) FROM pg_namespace WHERE oid = to_regnamespace('trail')
  UNION ALL
  SELECT concat_ws(' ', 'relation', relname, relkind, relowner::regrole, relacl, relrowsecurity, relforcerowsecurity, reloptions)
    FROM pg_class WHERE relnamespace = to_regnamespace('trail')
  UNION ALL
  SELECT concat_ws(' ', 'toast', c.relname, t.reloptions)
    FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.relnamespace = to_regnamespace('trail')
  UNION ALL
  SELECT concat_ws(' ', 'column', c.relname, attname, format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull, attacl,
      pg_get_expr(adbin, adrelid))
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE relnamespace = to_regnamespace('trail') AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
  UNION ALL
  SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = to_regnamespace('trail')
  UNION ALL
  SELECT concat_ws(' ', 'index', pg_get_indexdef(oid))
    FROM pg_class WHERE relnamespace = to_regnamespace('trail') AND relkind = 'i'
  UNION ALL
  SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = to_regnamespace('trail') AND NOT tgisinternal
  UNION ALL
  SELECT concat_ws(' ', 'policy', p) FROM pg_policies p WHERE schemaname = 'trail'
  UNION ALL
  SELECT concat_ws(' ', 'function', pg_get_functiondef(oid), proowner::regrole, proacl)
    FROM pg_proc WHERE pronamespace = to_regnamespace('trail')
) AS items (item);

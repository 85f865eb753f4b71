-- Copyright: (c) 2026, flowaudit.ops maintainers
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
--
-- The shared trail: logs of any number of control nodes, which can be added to and witnessed, and not be changed.
--
-- Give it to an empty UTF-8 database as a superuser, as often as you like; what is there stays. (The file is ASCII only,
-- so that no client's encoding changes it.)
--
--   psql --dbname=trail --set=ON_ERROR_STOP=1 --single-transaction --file=trail.sql
--
-- trail_owner    owns everything, and nobody logs in as it
-- trail_writer   may call append, keep_openings, erase, prune and witness, each for its own logs, and read those logs
-- trail_auditor  may read everything, and nothing else
--
-- A login gets its rights by being a member of one of the last two. A superuser can do anything, here as everywhere;
-- that it was done shows when the log is verified against the checkpoints that are kept elsewhere.

SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '10s';

DO $$
DECLARE
  name text;
BEGIN
  IF current_setting('server_version_num')::int < 150000 THEN
    RAISE EXCEPTION 'The trail needs PostgreSQL 15 or newer, this is %.', current_setting('server_version');
  END IF;
  IF current_setting('server_encoding') <> 'UTF8' THEN
    RAISE EXCEPTION 'The trail needs a database with the encoding UTF8, % has %.',
      current_database(), current_setting('server_encoding');
  END IF;
  -- Two who run this at once wait for each other.
  PERFORM pg_advisory_xact_lock(hashtextextended('flowaudit.ops trail schema', 0));
  FOREACH name IN ARRAY ARRAY['trail_owner', 'trail_writer', 'trail_auditor'] LOOP
    IF to_regrole(name) IS NULL THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', name);
    END IF;
    EXECUTE format('ALTER ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name);
  END LOOP;
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO trail_writer, trail_auditor', current_database());
END $$;

CREATE SCHEMA IF NOT EXISTS trail AUTHORIZATION trail_owner;
SET LOCAL ROLE trail_owner;

-- == Tables ===========================================================================================================
-- Text is compared by its bytes (COLLATE "C"): an index must not depend on the version of the system's locales.

CREATE TABLE IF NOT EXISTS trail.meta (key text COLLATE "C" PRIMARY KEY, value text NOT NULL);

-- One log a control node. It belongs to the login that has written to it first; a new login takes it over with
-- UPDATE trail.logs SET writer = 'login' WHERE origin = 'log', which only the owner may.
CREATE TABLE IF NOT EXISTS trail.logs (
  origin text COLLATE "C" PRIMARY KEY CHECK (origin ~ '^[^[:space:]+]{1,255}$'),
  writer text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- ``line`` is what is hashed. The other columns are computed from it, so they cannot say anything else; they are cut,
-- because an index takes no value of more than 2700 bytes, and \u0000 is replaced, because no text can hold it.
CREATE TABLE IF NOT EXISTS trail.entries (
  origin text COLLATE "C" NOT NULL,
  seq bigint NOT NULL CHECK (seq >= 0),
  line text,
  leaf bytea NOT NULL CHECK (octet_length(leaf) = 32),
  type text COLLATE "C" GENERATED ALWAYS AS (left(replace(line, '\u0000', '\ufffd')::json ->> 'type', 255)) STORED,
  ts text COLLATE "C" GENERATED ALWAYS AS (left(replace(line, '\u0000', '\ufffd')::json ->> 'ts', 255)) STORED,
  run text COLLATE "C" GENERATED ALWAYS AS (left(replace(line, '\u0000', '\ufffd')::json ->> 'run', 255)) STORED,
  chg text COLLATE "C" GENERATED ALWAYS AS (left(replace(line, '\u0000', '\ufffd')::json ->> 'chg', 255)) STORED,
  host text COLLATE "C" GENERATED ALWAYS AS (left(replace(line, '\u0000', '\ufffd')::json ->> 'host', 255)) STORED,
  status text COLLATE "C" GENERATED ALWAYS AS (left(replace(line, '\u0000', '\ufffd')::json ->> 'status', 255)) STORED,
  changed boolean GENERATED ALWAYS AS ((replace(line, '\u0000', '\ufffd')::json -> 'changed')::text = 'true') STORED,
  PRIMARY KEY (origin, seq),
  CONSTRAINT entries_leaf_is_the_hash_of_line
    CHECK (line IS NULL OR leaf = sha256('\x00'::bytea || convert_to(line, 'UTF8')))
);
CREATE INDEX IF NOT EXISTS entries_run ON trail.entries (run, host);
CREATE INDEX IF NOT EXISTS entries_ts ON trail.entries (ts);
CREATE INDEX IF NOT EXISTS entries_host ON trail.entries (host, ts) WHERE host IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_started ON trail.entries (ts) WHERE type = 'run.start';
CREATE INDEX IF NOT EXISTS entries_ended ON trail.entries (run) WHERE type IN ('run.end', 'run.aborted');
CREATE INDEX IF NOT EXISTS entries_type ON trail.entries (type, ts)
  WHERE type NOT IN ('task.result', 'task.dispatched', 'task.start');
CREATE INDEX IF NOT EXISTS entries_chg ON trail.entries (chg, ts)
  WHERE type NOT IN ('task.result', 'task.dispatched', 'task.start');
CREATE INDEX IF NOT EXISTS entries_changed ON trail.entries (ts, host) WHERE changed AND type = 'task.result';
CREATE INDEX IF NOT EXISTS entries_failed ON trail.entries (ts, host)
  WHERE status IN ('failed', 'unreachable') AND type = 'task.result';

-- Roots of complete subtrees of 2^8, 2^16 and so on entries.
CREATE TABLE IF NOT EXISTS trail.nodes (
  origin text COLLATE "C" NOT NULL,
  level integer NOT NULL CHECK (level > 0 AND level % 8 = 0),
  idx bigint NOT NULL CHECK (idx >= 0),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  PRIMARY KEY (origin, level, idx)
);

-- The checkpoints that were witnessed. A log of one size can have several: with one more signature, for example.
CREATE TABLE IF NOT EXISTS trail.checkpoints (
  origin text COLLATE "C" NOT NULL,
  size bigint NOT NULL CHECK (size > 0),
  root bytea NOT NULL CHECK (octet_length(root) = 32),
  note text NOT NULL,
  digest bytea NOT NULL CHECK (digest = sha256(convert_to(note, 'UTF8'))),
  witnessed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (origin, size, digest)
);

-- What entries only commit to (personal data, diffs). Deleting is what they are kept apart for.
CREATE TABLE IF NOT EXISTS trail.openings (
  origin text COLLATE "C" NOT NULL,
  commitment text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  kind text COLLATE "C" NOT NULL,
  salt bytea NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (origin, commitment)
);
CREATE INDEX IF NOT EXISTS openings_seq ON trail.openings (origin, seq);
-- The space of a deleted opening is cleaned within minutes, not when a fifth of the table is gone.
ALTER TABLE trail.openings SET (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1,
  toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1
);

-- What was erased does not come back from a process that has read it before.
CREATE TABLE IF NOT EXISTS trail.erased (
  origin text COLLATE "C" NOT NULL,
  commitment text COLLATE "C" NOT NULL,
  erased_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (origin, commitment)
);

-- == Versions of the schema ===========================================================================================
-- What changes a table that is there already goes here, as ``IF version < 2 THEN ALTER TABLE ...``.
DO $$
DECLARE
  version integer;
BEGIN
  SELECT value::integer INTO version FROM trail.meta WHERE key = 'schema';
  IF version > 1 THEN
    RAISE EXCEPTION 'The trail in % has the schema %, this file is of schema 1; use a newer flowaudit.ops.',
      current_database(), version;
  END IF;
  INSERT INTO trail.meta (key, value) VALUES ('schema', '1') ON CONFLICT DO NOTHING;
  -- How many days the bytes of an entry stay at least, whatever a writer asks for.
  INSERT INTO trail.meta (key, value) VALUES ('keep_days', '365') ON CONFLICT DO NOTHING;
END $$;

-- == Append-only ======================================================================================================
CREATE OR REPLACE FUNCTION trail.refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'TR008',
    MESSAGE = format('The trail is append-only: no %s of trail.%s.', TG_OP, TG_TABLE_NAME);
END $$;

-- Of an entry the bytes may go (pruning), unless they are needed to verify the rest; of a log, the writer may change.
CREATE OR REPLACE FUNCTION trail.refuse_but_pruning() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NEW.line IS NULL AND (NEW.origin, NEW.seq, NEW.leaf) = (OLD.origin, OLD.seq, OLD.leaf)
    AND coalesce(OLD.type, '') NOT IN ('log.created', 'key.rotated', 'redaction', 'archived', 'pruned')
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'TR008',
    MESSAGE = format('The trail is append-only: no UPDATE of trail.%s.', TG_TABLE_NAME);
END $$;

CREATE OR REPLACE FUNCTION trail.refuse_but_new_writer() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (NEW.origin, NEW.created_at) = (OLD.origin, OLD.created_at) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'TR008',
    MESSAGE = format('The trail is append-only: no UPDATE of trail.%s.', TG_TABLE_NAME);
END $$;

CREATE OR REPLACE TRIGGER stay BEFORE DELETE OR TRUNCATE ON trail.logs EXECUTE FUNCTION trail.refuse();
CREATE OR REPLACE TRIGGER only_new_writer BEFORE UPDATE ON trail.logs
  FOR EACH ROW EXECUTE FUNCTION trail.refuse_but_new_writer();
CREATE OR REPLACE TRIGGER stay BEFORE DELETE OR TRUNCATE ON trail.entries EXECUTE FUNCTION trail.refuse();
CREATE OR REPLACE TRIGGER only_pruning BEFORE UPDATE ON trail.entries
  FOR EACH ROW EXECUTE FUNCTION trail.refuse_but_pruning();
CREATE OR REPLACE TRIGGER stay BEFORE UPDATE OR DELETE OR TRUNCATE ON trail.nodes EXECUTE FUNCTION trail.refuse();
CREATE OR REPLACE TRIGGER stay BEFORE UPDATE OR DELETE OR TRUNCATE ON trail.checkpoints EXECUTE FUNCTION trail.refuse();
CREATE OR REPLACE TRIGGER stay BEFORE UPDATE OR TRUNCATE ON trail.openings EXECUTE FUNCTION trail.refuse();
CREATE OR REPLACE TRIGGER stay BEFORE UPDATE OR DELETE OR TRUNCATE ON trail.erased EXECUTE FUNCTION trail.refuse();
-- Also where a session calls itself a replica.
ALTER TABLE trail.logs ENABLE ALWAYS TRIGGER stay, ENABLE ALWAYS TRIGGER only_new_writer;
ALTER TABLE trail.entries ENABLE ALWAYS TRIGGER stay, ENABLE ALWAYS TRIGGER only_pruning;
ALTER TABLE trail.nodes ENABLE ALWAYS TRIGGER stay;
ALTER TABLE trail.checkpoints ENABLE ALWAYS TRIGGER stay;
ALTER TABLE trail.openings ENABLE ALWAYS TRIGGER stay;
ALTER TABLE trail.erased ENABLE ALWAYS TRIGGER stay;

-- == The Merkle tree (RFC 6962), as plugins/module_utils/trail/merkle.py has it =======================================
CREATE OR REPLACE FUNCTION trail.node_hash(p_left bytea, p_right bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN sha256('\x01'::bytea || p_left || p_right);

-- The root over hashes of one level; their number is a power of two.
CREATE OR REPLACE FUNCTION trail.fold(p_hashes bytea[]) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  count integer := cardinality(p_hashes);
BEGIN
  WHILE count > 1 LOOP
    count := count / 2;
    FOR place IN 1..count LOOP
      p_hashes[place] := sha256('\x01'::bytea || p_hashes[2 * place - 1] || p_hashes[2 * place]);
    END LOOP;
  END LOOP;
  RETURN p_hashes[1];
END $$;

-- The stored hashes of a level (a multiple of 8), from start to stop.
CREATE OR REPLACE FUNCTION trail.hashes(p_origin text, p_level integer, p_start bigint, p_stop bigint) RETURNS bytea[]
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found bytea[];
BEGIN
  IF p_level = 0 THEN
    SELECT array_agg(leaf ORDER BY seq) INTO found FROM trail.entries
      WHERE origin = p_origin AND seq >= p_start AND seq < p_stop;
  ELSE
    SELECT array_agg(hash ORDER BY idx) INTO found FROM trail.nodes
      WHERE origin = p_origin AND level = p_level AND idx >= p_start AND idx < p_stop;
  END IF;
  IF coalesce(cardinality(found), 0) <> p_stop - p_start THEN
    RAISE EXCEPTION USING ERRCODE = 'TR001',
      MESSAGE = format('The trail of %s lacks hashes of level %s; verify it.', p_origin, p_level);
  END IF;
  RETURN found;
END $$;

-- The root of the first entries of a log.
CREATE OR REPLACE FUNCTION trail.root(p_origin text, p_size bigint) RETURNS bytea
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  start bigint := 0;
  level integer;
  base integer;
  width bigint;
  roots bytea[] := '{}';
  result bytea;
BEGIN
  IF p_size = 0 THEN
    RETURN sha256(''::bytea);
  END IF;
  WHILE start < p_size LOOP
    -- The largest complete subtree that begins here and ends in time.
    level := 0;
    WHILE (2::bigint << level) <= p_size - start LOOP
      level := level + 1;
    END LOOP;
    base := level - level % 8;
    width := 1::bigint << (level - base);
    roots := roots
      || trail.fold(trail.hashes(p_origin, base, (start >> level) * width, ((start >> level) + 1) * width));
    start := start + (1::bigint << level);
  END LOOP;
  result := roots[cardinality(roots)];
  FOR place IN REVERSE cardinality(roots) - 1..1 LOOP
    result := trail.node_hash(roots[place], result);
  END LOOP;
  RETURN result;
END $$;

-- Whether the proof shows one tree to be the start of the other (RFC 9162, 2.1.4.2).
CREATE OR REPLACE FUNCTION trail.consistent(
  p_earlier bigint, p_size bigint, p_proof bytea[], p_earlier_root bytea, p_root bytea
) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  place bigint;
  last bigint;
  hash bytea;
  first_root bytea;
  second_root bytea;
  hashes bytea[] := coalesce(p_proof, '{}');
BEGIN
  IF p_earlier IS NULL OR p_size IS NULL OR p_earlier < 0 OR p_earlier > p_size OR cardinality(hashes) > 128 THEN
    RETURN false;
  END IF;
  FOREACH hash IN ARRAY hashes LOOP
    IF hash IS NULL OR octet_length(hash) <> 32 THEN
      RETURN false;
    END IF;
  END LOOP;
  IF p_earlier = 0 THEN
    RETURN cardinality(hashes) = 0 AND coalesce(p_earlier_root = sha256(''::bytea), false);
  END IF;
  IF p_earlier = p_size THEN
    RETURN cardinality(hashes) = 0 AND coalesce(p_earlier_root = p_root, false);
  END IF;
  IF cardinality(hashes) = 0 THEN
    RETURN false;
  END IF;
  IF p_earlier & (p_earlier - 1) = 0 THEN
    hashes := p_earlier_root || hashes;
  END IF;
  place := p_earlier - 1;
  last := p_size - 1;
  WHILE place & 1 = 1 LOOP
    place := place >> 1;
    last := last >> 1;
  END LOOP;
  first_root := hashes[1];
  second_root := hashes[1];
  FOREACH hash IN ARRAY hashes[2:] LOOP
    IF last = 0 THEN
      RETURN false;
    END IF;
    IF place & 1 = 1 OR place = last THEN
      first_root := trail.node_hash(hash, first_root);
      second_root := trail.node_hash(hash, second_root);
      WHILE place <> 0 AND place & 1 = 0 LOOP
        place := place >> 1;
        last := last >> 1;
      END LOOP;
    ELSE
      second_root := trail.node_hash(second_root, hash);
    END IF;
    place := place >> 1;
    last := last >> 1;
  END LOOP;
  RETURN last = 0 AND coalesce(first_root = p_earlier_root AND second_root = p_root, false);
END $$;

-- == What a writer does ===============================================================================================

-- Wait until nobody else changes the log; make it when it is new; refuse whom it does not belong to. The lock is that
-- of a row, and not an advisory one, which every login could take to stop the others.
CREATE OR REPLACE FUNCTION trail.hold(p_origin text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owned boolean;
BEGIN
  INSERT INTO trail.logs (origin, writer) VALUES (p_origin, session_user) ON CONFLICT DO NOTHING;
  SELECT writer = session_user INTO owned FROM trail.logs WHERE origin = p_origin FOR UPDATE;
  IF NOT owned THEN
    RAISE EXCEPTION USING ERRCODE = 'TR004',
      MESSAGE = format('The log %s is not written by %s but by another login of the shared trail.',
        p_origin, session_user);
  END IF;
END $$;

-- Take the entries from p_first on. What is there already must be the same; the rest is appended. Returns the new size.
-- p_leaves is read only where a line is null, because the control node has pruned it: its hash is all that is left.
CREATE OR REPLACE FUNCTION trail.append(p_origin text, p_first bigint, p_lines text[], p_leaves bytea[] DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  size bigint;      -- before this
  stop bigint;      -- after it
  lines text[];     -- those that are new
  leaves bytea[];
  previous bytea;
  wrong bigint;
  forked boolean;
  level integer := 8;
  below bigint;
  above bigint;
BEGIN
  IF p_first IS NULL OR p_first < 0 OR p_lines IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'TR001', MESSAGE = 'There is nothing to append, or nowhere.';
  END IF;
  PERFORM trail.hold(p_origin);
  SELECT coalesce(max(seq) + 1, 0) INTO size FROM trail.entries WHERE origin = p_origin;
  IF p_first > size THEN
    RAISE EXCEPTION USING ERRCODE = 'TR002',
      MESSAGE = format('The log %s has %s entries here; %s cannot be the next.', p_origin, size, p_first);
  END IF;

  SELECT array_agg(coalesce(sha256('\x00'::bytea || convert_to(line, 'UTF8')), given) ORDER BY n) INTO leaves
    FROM unnest(p_lines, p_leaves) WITH ORDINALITY AS item (line, given, n) WHERE n <= cardinality(p_lines);
  SELECT min(e.seq) INTO wrong
    FROM unnest(leaves) WITH ORDINALITY AS item (leaf, n)
    JOIN trail.entries e ON e.seq = p_first + n - 1
    WHERE e.origin = p_origin AND e.seq >= p_first AND e.seq < p_first + cardinality(p_lines)
      AND e.leaf IS DISTINCT FROM item.leaf;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'TR003', DETAIL = wrong,
      MESSAGE = format('Entry %s of the log %s is another one here: the log has forked.', wrong, p_origin);
  END IF;
  IF p_first + cardinality(p_lines) <= size THEN
    RETURN size;
  END IF;

  lines := p_lines[size - p_first + 1:];
  leaves := leaves[size - p_first + 1:];
  stop := size + cardinality(lines);
  SELECT leaf INTO previous FROM trail.entries WHERE origin = p_origin AND seq = size - 1;
  BEGIN
    WITH given AS MATERIALIZED (
      SELECT n, line, leaf, replace(line, '\u0000', '\ufffd')::json AS value,
        coalesce(encode(lag(leaf, 1, previous) OVER (ORDER BY n), 'hex'), repeat('0', 64)) AS before
      FROM unnest(lines, leaves) WITH ORDINALITY AS item (line, leaf, n)
    )
    SELECT size + n - 1, coalesce(
        n = 1 AND size > 0 AND (value -> 'seq')::text = size::text AND value ->> 'prev' <> before, false
      )
      INTO wrong, forked
      FROM given
      WHERE leaf IS NULL OR octet_length(leaf) <> 32
        OR size + n = 1 AND (value ->> 'type', value ->> 'origin') IS DISTINCT FROM ('log.created', p_origin)
        OR line IS NOT NULL AND (
          (value -> 'seq')::text IS DISTINCT FROM (size + n - 1)::text
          OR value ->> 'prev' IS DISTINCT FROM before
          OR strpos(line, E'\n') > 0
        )
      ORDER BY n LIMIT 1;
  EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
    RAISE EXCEPTION USING ERRCODE = 'TR001',
      MESSAGE = format('One of the entries %s to %s of the log %s is no JSON.', size, stop - 1, p_origin);
  END;
  IF forked THEN
    RAISE EXCEPTION USING ERRCODE = 'TR003', DETAIL = wrong,
      MESSAGE = format('Entry %s of the log %s does not follow the entry %s that is here: the log has forked.',
        wrong, p_origin, wrong - 1);
  ELSIF wrong IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'TR001', DETAIL = wrong,
      MESSAGE = format('Entry %s is not the entry of that place of the log %s.', wrong, p_origin);
  END IF;

  INSERT INTO trail.entries (origin, seq, line, leaf)
    SELECT p_origin, size + n - 1, line, leaf FROM unnest(lines, leaves) WITH ORDINALITY AS item (line, leaf, n);
  -- An entry that says what was erased erases it here too.
  PERFORM trail.erase(p_origin, array_agg(commitment))
    FROM trail.entries, json_array_elements_text(
      CASE WHEN json_typeof(replace(line, '\u0000', '\ufffd')::json -> 'commitments') = 'array'
        THEN replace(line, '\u0000', '\ufffd')::json -> 'commitments' END
    ) AS commitment
    WHERE origin = p_origin AND seq >= size AND type = 'redaction'
    HAVING count(*) > 0;

  below := size / 256;
  above := stop / 256;
  WHILE below < above LOOP
    FOR place IN below..above - 1 LOOP
      INSERT INTO trail.nodes (origin, level, idx, hash)
        VALUES (p_origin, level, place, trail.fold(trail.hashes(p_origin, level - 8, place * 256, (place + 1) * 256)));
    END LOOP;
    level := level + 8;
    below := below / 256;
    above := above / 256;
  END LOOP;
  RETURN stop;
END $$;

-- Keep openings; those that are there or were erased are passed over. Returns how many are new.
CREATE OR REPLACE FUNCTION trail.keep_openings(
  p_origin text, p_commitments text[], p_seqs bigint[], p_kinds text[], p_salts bytea[], p_values bytea[]
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  wrong text;
  kept bigint;
BEGIN
  PERFORM trail.hold(p_origin);
  SELECT commitment INTO wrong
    FROM unnest(p_commitments, p_salts, p_values) AS item (commitment, salt, value)
    WHERE commitment IS DISTINCT FROM 'c:' || encode(sha256(salt || value), 'base64') LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'TR001',
      MESSAGE = format('The opening that is kept for the commitment %s is not that of it.', wrong);
  END IF;
  INSERT INTO trail.openings (origin, commitment, seq, kind, salt, value)
    SELECT p_origin, commitment, seq, kind, salt, value
    FROM unnest(p_commitments, p_seqs, p_kinds, p_salts, p_values) AS item (commitment, seq, kind, salt, value)
    WHERE NOT EXISTS (
      SELECT FROM trail.erased e WHERE e.origin = p_origin AND e.commitment = item.commitment
    )
    ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS kept = ROW_COUNT;
  RETURN kept;
END $$;

-- Delete openings, for good. Returns how many were there.
CREATE OR REPLACE FUNCTION trail.erase(p_origin text, p_commitments text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  erased bigint;
BEGIN
  PERFORM trail.hold(p_origin);
  INSERT INTO trail.erased (origin, commitment)
    SELECT p_origin, commitment FROM unnest(p_commitments) AS commitment
    WHERE commitment ~ '^c:[A-Za-z0-9+/]{43}=$' ON CONFLICT DO NOTHING;
  DELETE FROM trail.openings WHERE origin = p_origin AND commitment = ANY (p_commitments);
  GET DIAGNOSTICS erased = ROW_COUNT;
  RETURN erased;
END $$;

-- Delete the bytes of the entries from p_from to before p_before; their hashes stay, and so do entries that are needed
-- to verify the rest. Returns how many went. Whoever holds a control node cannot have those deleted that are younger than
-- keep_days.
CREATE OR REPLACE FUNCTION trail.prune(p_origin text, p_before bigint, p_from bigint DEFAULT 0) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  days integer;
  oldest text;
  young bigint;
  pruned bigint;
BEGIN
  PERFORM trail.hold(p_origin);
  SELECT value::integer INTO STRICT days FROM trail.meta WHERE key = 'keep_days';
  oldest := to_char((now() - make_interval(days => days)) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS');
  SELECT min(seq) INTO young FROM trail.entries
    WHERE origin = p_origin AND seq >= p_from AND seq < p_before AND line IS NOT NULL
      AND coalesce(type, '') NOT IN ('log.created', 'key.rotated', 'redaction', 'archived', 'pruned')
      AND coalesce(ts, '9999') >= oldest;
  IF young IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'TR007',
      MESSAGE = format('The shared trail keeps entries for %s days, and entry %s of the log %s is younger.',
        days, young, p_origin);
  END IF;
  UPDATE trail.entries SET line = NULL
    WHERE origin = p_origin AND seq >= p_from AND seq < p_before AND line IS NOT NULL
      AND coalesce(type, '') NOT IN ('log.created', 'key.rotated', 'redaction', 'archived', 'pruned');
  GET DIAGNOSTICS pruned = ROW_COUNT;
  RETURN pruned;
END $$;

-- Witness a checkpoint: p_note is the signed note, p_proof shows that the last one witnessed, of p_old entries (0 when
-- there is none), is its start. As in C2SP tlog-witness, whoever names another p_old learns it and asks again.
-- PostgreSQL cannot verify Ed25519: whether the log's key has signed is for trail_verify to say. What is proved here is
-- that the log was never cut or rewritten before any checkpoint that was witnessed, whoever has signed.
CREATE OR REPLACE FUNCTION trail.witness(p_origin text, p_old bigint, p_note text, p_proof bytea[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  lines text[];
  new_size bigint;
  new_root bytea;
  last_size bigint;
  last_root bytea;
  have bigint;
BEGIN
  PERFORM trail.hold(p_origin);
  lines := string_to_array(p_note, E'\n');
  IF p_note IS NULL OR octet_length(p_note) > 1048576 OR p_note ~ '[\x01-\x09\x0b-\x1f]'
    OR p_note !~ E'\n\n(\u2014 [^[:space:]+]+ [A-Za-z0-9+/]+={0,2}\n)+$'
    OR lines[2] !~ '^[1-9][0-9]{0,15}$' OR lines[3] !~ '^[A-Za-z0-9+/]{43}=$'
    OR encode(decode(lines[3], 'base64'), 'base64') <> lines[3]
  THEN
    RAISE EXCEPTION USING ERRCODE = 'TR001',
      MESSAGE = 'A checkpoint is a note of origin, size and root with a signature.';
  END IF;
  IF lines[1] <> p_origin THEN
    RAISE EXCEPTION USING ERRCODE = 'TR006', MESSAGE = format('The checkpoint is not one of the log %s.', p_origin);
  END IF;
  new_size := lines[2];
  new_root := decode(lines[3], 'base64');

  SELECT size, root INTO last_size, last_root FROM trail.checkpoints
    WHERE origin = p_origin ORDER BY size DESC LIMIT 1;
  last_size := coalesce(last_size, 0);
  last_root := coalesce(last_root, sha256(''::bytea));
  IF p_old IS DISTINCT FROM last_size THEN
    RAISE EXCEPTION USING ERRCODE = 'TR005', DETAIL = last_size,
      MESSAGE = format('The last checkpoint that was witnessed for the log %s has %s entries.', p_origin, last_size);
  END IF;
  IF new_size < last_size THEN
    RAISE EXCEPTION USING ERRCODE = 'TR006', DETAIL = last_size,
      MESSAGE = format('A checkpoint of %s entries was witnessed for the log %s; one of %s is refused.',
        last_size, p_origin, new_size);
  END IF;
  IF new_size = last_size AND new_root <> last_root THEN
    RAISE EXCEPTION USING ERRCODE = 'TR006', DETAIL = last_size,
      MESSAGE = format('Another root was witnessed for %s entries of the log %s: the log has forked.',
        last_size, p_origin);
  END IF;
  SELECT coalesce(max(seq) + 1, 0) INTO have FROM trail.entries WHERE origin = p_origin;
  IF new_size > have THEN
    RAISE EXCEPTION USING ERRCODE = 'TR006',
      MESSAGE = format('The log %s has %s entries here; a checkpoint of %s is refused.', p_origin, have, new_size);
  END IF;
  IF NOT trail.consistent(last_size, new_size, p_proof, last_root, new_root) THEN
    RAISE EXCEPTION USING ERRCODE = 'TR006',
      MESSAGE = format('It is not proved that the log %s of %s entries is the start of that of %s.',
        p_origin, last_size, new_size);
  END IF;
  IF trail.root(p_origin, new_size) <> new_root THEN
    RAISE EXCEPTION USING ERRCODE = 'TR006',
      MESSAGE = format('The checkpoint was not signed over the %s entries of the log %s that are here.',
        new_size, p_origin);
  END IF;
  INSERT INTO trail.checkpoints (origin, size, root, note, digest)
    VALUES (p_origin, new_size, new_root, p_note, sha256(convert_to(p_note, 'UTF8'))) ON CONFLICT DO NOTHING;
  RETURN new_size;
END $$;

-- == Who may what =====================================================================================================
REVOKE ALL ON SCHEMA trail FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA trail FROM PUBLIC, trail_writer, trail_auditor;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA trail FROM PUBLIC, trail_writer, trail_auditor;
GRANT USAGE ON SCHEMA trail TO trail_writer, trail_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA trail TO trail_auditor;
GRANT EXECUTE ON FUNCTION trail.root, trail.hashes, trail.fold, trail.node_hash TO trail_auditor;
GRANT SELECT ON trail.meta, trail.logs, trail.entries, trail.nodes, trail.checkpoints TO trail_writer;
GRANT EXECUTE ON FUNCTION trail.append, trail.keep_openings, trail.erase, trail.prune, trail.witness TO trail_writer;

-- A writer sees its own logs only.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['logs', 'entries', 'nodes', 'checkpoints', 'openings', 'erased'] LOOP
    EXECUTE format('ALTER TABLE trail.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('DROP POLICY IF EXISTS auditors ON trail.%I', name);
    EXECUTE format('CREATE POLICY auditors ON trail.%I FOR SELECT TO trail_auditor USING (true)', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['entries', 'nodes', 'checkpoints'] LOOP
    EXECUTE format('DROP POLICY IF EXISTS writers ON trail.%I', name);
    EXECUTE format('CREATE POLICY writers ON trail.%I FOR SELECT TO trail_writer'
      ' USING (origin IN (SELECT origin FROM trail.logs WHERE writer = session_user))', name);
  END LOOP;
  DROP POLICY IF EXISTS writers ON trail.logs;
  CREATE POLICY writers ON trail.logs FOR SELECT TO trail_writer USING (writer = session_user);
END $$;

SET LOCAL ROLE NONE;

-- Roles of Penstock in one PostgreSQL database: `penstock migrate --print-roles | psql DATABASE-URL-OF-AN-OWNER`.
-- May be run again. Each service's role reads and writes the rows of its own schema and can do nothing else: no tables
-- are made, and no other schema is seen. Tables belong to the migrations' role, which alone makes and changes them.
-- No role has a password yet: `\password penstock_planner`, and so on.

DO $$
DECLARE
    service text;
    kept record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'penstock_migrations') THEN
        CREATE ROLE penstock_migrations LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO penstock_migrations', current_database());
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    FOREACH service IN ARRAY ARRAY['planner', 'scheduler', 'analyzer', 'gateway'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'penstock_' || service) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', 'penstock_' || service);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), 'penstock_' || service);
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = %I',
            'penstock_' || service, current_database(), service);
        EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', service);
        EXECUTE format('ALTER SCHEMA %I OWNER TO penstock_migrations', service);
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', service);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', service, 'penstock_' || service);
        -- What was made before there were roles. Sequences of columns go with their tables.
        FOR kept IN
            SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = service AND c.relkind IN ('r', 'p')
        LOOP
            EXECUTE format('ALTER TABLE %I.%I OWNER TO penstock_migrations', service, kept.relname);
        END LOOP;
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO %I',
            service, 'penstock_' || service);
        EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO %I', service, 'penstock_' || service);
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE penstock_migrations IN SCHEMA %I '
            'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I', service, 'penstock_' || service);
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE penstock_migrations IN SCHEMA %I '
            'GRANT USAGE, SELECT ON SEQUENCES TO %I', service, 'penstock_' || service);
    END LOOP;
END
$$;

-- The backend's schema, as in the contract, and a role with the rights of the
-- contract and no others.

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    external_ip TEXT NOT NULL DEFAULT 'localhost',
    frontend_port INTEGER NOT NULL DEFAULT 8080,
    workspace_path TEXT NOT NULL DEFAULT '.',
    container_name TEXT,
    workdir_path TEXT,
    db_host TEXT,
    db_port INTEGER,
    db_user TEXT,
    db_password TEXT,
    db_name TEXT,
    backend_port INTEGER,
    frontend_command TEXT,
    frontend_language TEXT,
    backend_command TEXT,
    backend_language TEXT,
    subdomain TEXT,
    created_at BIGINT NOT NULL DEFAULT 0,
    updated_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    project_id TEXT REFERENCES projects (id) ON DELETE CASCADE,
    parent_session_id TEXT,
    title TEXT NOT NULL,
    message_count BIGINT NOT NULL DEFAULT 0,
    prompt_tokens BIGINT NOT NULL DEFAULT 0,
    completion_tokens BIGINT NOT NULL DEFAULT 0,
    cost DOUBLE PRECISION NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL DEFAULT 0,
    updated_at BIGINT NOT NULL DEFAULT 0
);

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    RETURN NEW;
END $$;
CREATE TRIGGER touched BEFORE UPDATE ON sessions
    FOR EACH ROW EXECUTE FUNCTION touch();

CREATE ROLE crush LOGIN PASSWORD '123456';
GRANT SELECT ON sessions TO crush;
GRANT SELECT, UPDATE ON projects TO crush;

-- For the tests: every write to projects, by any role.
CREATE TABLE writes (
    number BIGSERIAL,
    project TEXT,
    container_name TEXT,
    role TEXT DEFAULT session_user
);
CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO writes (project, container_name) VALUES (NEW.id, NEW.container_name);
    RETURN NULL;
END $$;
CREATE TRIGGER written AFTER UPDATE ON projects
    FOR EACH ROW EXECUTE FUNCTION written();

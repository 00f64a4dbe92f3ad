// A backend that knows nothing but the project API. It calls every route once, in the
// contract's shapes. Every status except 200 is an error.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// fields is a request's body.
type fields map[string]any

// client sends the requests of one conversation.
type client struct {
	base    string
	session string
	http    http.Client
}

// send decodes a success into answer; a failure is an error with the body.
func (c *client) send(method, path string, body any, answer any) error {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, c.base+path, payload)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answered %d: %s", method, path, response.StatusCode, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s %s answered %s: %w", method, path, text, err)
	}
	return nil
}

// call posts the fields and the conversation.
func (c *client) call(path string, body fields, answer any) {
	body["session_id"] = c.session
	must(c.send(http.MethodPost, path, body, answer))
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func check(holds bool, what string, found any) {
	if !holds {
		must(fmt.Errorf("%s: %+v", what, found))
	}
}

type message struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type health struct {
	Status         string `json:"status"`
	ActiveSessions int    `json:"active_sessions"`
}

type sessions struct {
	Sessions []string `json:"sessions"`
	Count    int      `json:"count"`
}

type result struct {
	Status   string `json:"status"`
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
	ExitCode int    `json:"exit_code"`
}

type content struct {
	Status  string `json:"status"`
	Content string `json:"content"`
}

type files struct {
	Status string   `json:"status"`
	Files  []string `json:"files"`
}

type node struct {
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	Type     string  `json:"type"`
	Path     string  `json:"path"`
	Children []*node `json:"children,omitempty"`
	Content  string  `json:"content,omitempty"`
}

type tree struct {
	Status string `json:"status"`
	Tree   *node  `json:"tree"`
}

type position struct {
	Line      int `json:"line"`
	Character int `json:"character"`
}

type diagnostic struct {
	Range struct {
		Start position `json:"start"`
		End   position `json:"end"`
	} `json:"range"`
	Severity int    `json:"severity"`
	Source   string `json:"source"`
	Message  string `json:"message"`
	Code     string `json:"code,omitempty"`
}

type diagnostics struct {
	Status string `json:"status"`
	Files  []struct {
		FilePath    string       `json:"file_path"`
		Diagnostics []diagnostic `json:"diagnostics"`
	} `json:"file_diagnostics"`
	Project []diagnostic `json:"project_diagnostics"`
}

type flat struct {
	Status      string            `json:"status"`
	Diagnostics []json.RawMessage `json:"diagnostics"`
}

type project struct {
	Status        string `json:"status"`
	ContainerID   string `json:"container_id"`
	ContainerName string `json:"container_name"`
	FrontendPort  int    `json:"frontend_port"`
	BackendPort   *int   `json:"backend_port,omitempty"`
	Image         string `json:"image"`
	Workdir       string `json:"workdir"`
	Message       string `json:"message"`
}

type domain struct {
	Status    string `json:"status"`
	Subdomain string `json:"subdomain"`
	Message   string `json:"message"`
}

func (c *client) runCode() {
	for language, code := range map[string]string{
		"":       "echo \"it's\"; echo oops >&2; exit 3",
		"bash":   "echo \"it's\"; echo oops >&2; exit 3",
		"sh":     "echo \"it's\"; echo oops >&2; exit 3",
		"python": "import sys\nprint(\"it's\")\nprint('oops', file=sys.stderr)\nsys.exit(3)",
	} {
		body := fields{"command": code, "timeout": 20, "working_dir": "/tmp"}
		if language != "" {
			body["language"] = language
		}
		var got result
		c.call("/execute", body, &got)
		check(got == result{"ok", "it's\n", "oops\n", 3}, "/execute "+language, got)
	}
	err := c.send(http.MethodPost, "/execute", fields{"session_id": c.session}, &result{})
	missing := "session_id and command are required"
	check(err != nil && strings.Contains(err.Error(), missing), "/execute without a command", err)
	check(strings.Contains(err.Error(), " 400: {\"error\":"), "its shape", err)
}

func (c *client) useFiles() {
	var said message
	c.call("/file/write", fields{"file_path": "src/app.py", "content": "x = 'ü'\n"}, &said)
	check(said == message{"ok", "File src/app.py written successfully"}, "/file/write", said)
	edit := fields{"file_path": "src/app.py", "old_string": "x", "new_string": "y", "replace_all": true}
	c.call("/file/edit", edit, &said)
	check(said == message{"ok", "File src/app.py edited successfully"}, "/file/edit", said)
	var got content
	c.call("/file/read", fields{"file_path": "/sandbox/src/app.py"}, &got)
	check(got == content{"ok", "y = 'ü'\n"}, "/file/read", got)
	var listed files
	c.call("/file/list", fields{"path": "src"}, &listed)
	check(len(listed.Files) == 1 && listed.Files[0] == "app.py", "/file/list", listed)
	c.call("/file/list", fields{"path": "nothing"}, &listed)
	check(listed.Files != nil && len(listed.Files) == 0, "/file/list of nothing", listed)
	var found result
	c.call("/file/grep", fields{"pattern": "y = ", "path": "/sandbox"}, &found)
	check(found == result{"ok", "/sandbox/src/app.py:y = 'ü'\n", "", 0}, "/file/grep", found)
	c.call("/file/grep", fields{"pattern": "nothing"}, &found)
	check(found == result{"ok", "", "", 1}, "/file/grep of nothing", found)
	c.call("/file/glob", fields{"pattern": "*.py", "path": "/sandbox"}, &found)
	check(found == result{"ok", "/sandbox/src/app.py\n", "", 0}, "/file/glob", found)
}

func (c *client) lookAtTree() {
	query := url.Values{"session_id": {c.session}, "path": {"/sandbox"}}
	var got tree
	must(c.send(http.MethodGet, "/file/tree?"+query.Encode(), nil, &got))
	check(got.Tree != nil && got.Tree.ID == "1" && got.Tree.Type == "folder", "/file/tree", got)
	check(len(got.Tree.Children) == 1, "/file/tree", got.Tree)
	src := got.Tree.Children[0]
	check(src.ID == "2" && src.Path == "/src" && len(src.Children) == 1, "/file/tree", src)
	file := src.Children[0]
	check(file.ID == "3" && file.Name == "app.py" && file.Type == "file", "/file/tree", file)
	check(file.Path == "/src/app.py" && file.Content == "y = 'ü'\n", "/file/tree", file)
	query.Set("path", "/no/such")
	err := c.send(http.MethodGet, "/file/tree?"+query.Encode(), nil, &got)
	missing := "answered 404: {\"error\":\"Path does not exist: /no/such\"}"
	check(err != nil && strings.Contains(err.Error(), missing), "/file/tree of nothing", err)
}

func (c *client) diagnose() {
	c.call("/file/write", fields{"file_path": "bad.py", "content": "def f(:\n"}, &message{})
	var got diagnostics
	c.call("/lsp/diagnostics", fields{"file_path": "bad.py"}, &got)
	check(len(got.Files) == 1 && len(got.Files[0].Diagnostics) == 1, "/lsp/diagnostics", got)
	first := got.Files[0].Diagnostics[0]
	check(first.Range.Start == position{0, 6}, "/lsp/diagnostics", first)
	check(first.Severity == 1 && first.Source != "" && first.Message != "", "/lsp/diagnostics", first)
	c.call("/lsp/diagnostics", fields{}, &got)
	check(len(got.Files) > 0 && got.Project != nil, "/lsp/diagnostics of all", got)
	var list flat
	c.call("/diagnostic", fields{"file_path": "bad.py"}, &list)
	check(list.Status == "ok" && len(list.Diagnostics) == 1, "/diagnostic", list)
}

func (c *client) makeProject() {
	var made project
	body := fields{"project_name": "Shop", "backend_language": "python", "need_database": false}
	must(c.send(http.MethodPost, "/projects/create", body, &made))
	check(made.Status == "ok" && made.ContainerID != "" && made.ContainerName != "", "/projects/create", made)
	check(made.FrontendPort > 0 && made.BackendPort != nil && *made.BackendPort > 0, "its ports", made)
	check(made.Workdir == "/workspace" && made.Image != "" && made.Message != "", "/projects/create", made)
	body = fields{
		"container_id": made.ContainerID, "subdomain": "shop",
		"frontend_port": 5173, "domain": "example.org",
	}
	var led domain
	must(c.send(http.MethodPost, "/projects/configure-domain", body, &led))
	check(led.Subdomain == "shop.example.org" && led.Message != "", "/projects/configure-domain", led)
	for range "ab" {
		var said message
		body = fields{"container_id": made.ContainerID}
		must(c.send(http.MethodPost, "/projects/delete", body, &said))
		check(said.Status == "ok" && said.Message != "", "/projects/delete", said)
	}
}

func (c *client) endAll() {
	var well health
	must(c.send(http.MethodGet, "/health", nil, &well))
	check(well == health{"ok", 1}, "/health", well)
	var all sessions
	must(c.send(http.MethodGet, "/sessions", nil, &all))
	check(all.Count == 1 && len(all.Sessions) == 1 && all.Sessions[0] == c.session, "/sessions", all)
	path := "/session/" + url.PathEscape(c.session)
	for _, end := range []string{" removed", " not found"} {
		var said message
		must(c.send(http.MethodDelete, path, nil, &said))
		check(said == message{"ok", "Session " + c.session + end}, path, said)
	}
	c.call("/execute", fields{"command": "true"}, &result{})
	var said message
	must(c.send(http.MethodPost, "/sessions/cleanup", nil, &said))
	check(said == message{"ok", "Cleaned up 1 sessions"}, "/sessions/cleanup", said)
	must(c.send(http.MethodGet, "/sessions", nil, &all))
	check(all.Sessions != nil && all.Count == 0, "/sessions", all)
}

func main() {
	c := &client{base: os.Args[1], session: "a/b c%ü", http: http.Client{Timeout: 5 * time.Minute}}
	c.runCode()
	c.useFiles()
	c.lookAtTree()
	c.diagnose()
	c.makeProject()
	c.endAll()
	fmt.Println("fine")
}

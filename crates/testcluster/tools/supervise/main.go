// The parent of every process of one test cluster. It starts what it is asked
// to over a unix socket (one JSON line in, one out, per connection), and it is
// a subreaper that reaps: containerd's shims are orphans by design, and a
// machine whose own PID 1 does not reap would keep a zombie for every pod.
// It decides nothing: what to start, stop or repair is the caller's business.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER

type request struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	Log  string   `json:"log"`
}

type answer struct {
	Pid   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
}

// children maps a pid to the log that its end is noted in.
var (
	mutex    sync.Mutex
	children = map[int]string{}
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: supervise SOCKET")
		os.Exit(2)
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		fmt.Fprintln(os.Stderr, "supervise: not a subreaper:", errno)
		os.Exit(1)
	}
	// A closed terminal is no reason to end; SIGTERM is, and takes nobody along.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	go reap()
	os.Remove(os.Args[1])
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "supervise:", err)
		os.Exit(1)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "supervise:", err)
			os.Exit(1)
		}
		go serve(connection)
	}
}

func serve(connection net.Conn) {
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(10 * time.Second))
	var asked request
	if err := json.NewDecoder(connection).Decode(&asked); err != nil {
		return
	}
	pid, err := start(asked)
	given := answer{Pid: pid}
	if err != nil {
		given.Error = err.Error()
	}
	json.NewEncoder(connection).Encode(given)
}

func start(asked request) (int, error) {
	if len(asked.Argv) == 0 {
		return 0, fmt.Errorf("nothing to start")
	}
	log, err := os.OpenFile(asked.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	// Held across the fork, so that the reaper cannot meet a pid before its entry.
	mutex.Lock()
	defer mutex.Unlock()
	process, err := os.StartProcess(asked.Argv[0], asked.Argv, &os.ProcAttr{
		Dir:   asked.Dir,
		Env:   asked.Env,
		Files: []*os.File{null, log, log},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, err
	}
	children[process.Pid] = asked.Log
	pid := process.Pid
	process.Release()
	return pid, nil
}

// reap waits for children and orphans alike. It polls beside SIGCHLD because
// signals of the same kind merge.
func reap() {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGCHLD)
	ticker := time.NewTicker(time.Second)
	for {
		select {
		case <-signals:
		case <-ticker.C:
		}
		for reapOne() {
		}
	}
}

func reapOne() bool {
	mutex.Lock()
	defer mutex.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if pid <= 0 || (err != nil && err != syscall.EINTR) {
		return false
	}
	if path, ours := children[pid]; ours {
		delete(children, pid)
		note(path, pid, status)
	}
	return true
}

func note(path string, pid int, status syscall.WaitStatus) {
	// The file may be gone when the whole cluster is being taken down.
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return
	}
	defer log.Close()
	how := fmt.Sprintf("exit code %d", status.ExitStatus())
	if status.Signaled() {
		how = "signal " + status.Signal().String()
	}
	fmt.Fprintf(log, "supervise: process %d ended with %s\n", pid, how)
}

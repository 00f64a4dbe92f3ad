package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// Where the hostPath provisioner makes its volumes; the path is fixed in it.
const hostPathVolumes = "/tmp/hostpath_pv"

// openVolumes makes every new hostPath volume writable for whoever mounts it.
// The provisioner makes its folders with mode 0750, and the kubelet applies no
// fsGroup to hostPath volumes, so that a pod without root could not write to one:
// on a real cluster the storage driver sees to that.
func openVolumes() error {
	if err := os.MkdirAll(hostPathVolumes, 0o755); err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	if err := watcher.Add(hostPathVolumes); err != nil {
		return err
	}
	go func() {
		for event := range watcher.Events {
			if event.Has(fsnotify.Create) && filepath.Dir(event.Name) == hostPathVolumes {
				if err := os.Chmod(event.Name, 0o777); err != nil && !os.IsNotExist(err) {
					fmt.Fprintln(os.Stderr, "kubernetes: a volume stays closed:", err)
				}
			}
		}
	}()
	return nil
}

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
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	if err := watch(watcher); err != nil {
		return err
	}
	go func() {
		for event := range watcher.Events {
			switch {
			case event.Has(fsnotify.Create) && filepath.Dir(event.Name) == hostPathVolumes:
				open(event.Name)
			case event.Has(fsnotify.Remove) && event.Name == hostPathVolumes:
				// The end of another cluster took the empty folder away.
				if err := watch(watcher); err != nil {
					fmt.Fprintln(os.Stderr, "kubernetes: volumes cannot be watched:", err)
				}
			}
		}
	}()
	return nil
}

// watch begins with the folder as it is now, and opens what is in it already.
func watch(watcher *fsnotify.Watcher) error {
	if err := os.MkdirAll(hostPathVolumes, 0o755); err != nil {
		return err
	}
	if err := watcher.Add(hostPathVolumes); err != nil {
		return err
	}
	volumes, err := os.ReadDir(hostPathVolumes)
	for _, volume := range volumes {
		open(filepath.Join(hostPathVolumes, volume.Name()))
	}
	return err
}

func open(volume string) {
	if err := os.Chmod(volume, 0o777); err != nil && !os.IsNotExist(err) {
		fmt.Fprintln(os.Stderr, "kubernetes: a volume stays closed:", err)
	}
}

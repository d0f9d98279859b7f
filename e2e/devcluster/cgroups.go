package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// All Pods run under one control group of ours, so that `down` finds every process of theirs, whoever its parent is.

// hierarchies are the mount points of control groups: one with version 2, one for each controller with version 1.
func hierarchies() []string {
	content, _ := os.ReadFile("/proc/self/mounts")
	var points []string
	for _, line := range strings.Split(string(content), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 2 && (fields[2] == "cgroup" || fields[2] == "cgroup2") {
			points = append(points, fields[1])
		}
	}
	return points
}

func makeCgroups() error {
	for _, point := range hierarchies() {
		group := filepath.Join(point, cgroupName)
		if err := os.MkdirAll(group, 0o755); err != nil {
			return fmt.Errorf("make the control group %s: %w", group, err)
		}
		// A new cpuset group of version 1 has no processors and no memory, and so can hold no process.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if inherited, err := os.ReadFile(filepath.Join(point, file)); err == nil && filepath.Base(point) == "cpuset" {
				if err := os.WriteFile(filepath.Join(group, file), inherited, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// killPodProcesses ends what still runs under our control group.
func killPodProcesses() error {
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ids := podProcesses()
		if len(ids) == 0 {
			return nil
		}
		for _, id := range ids {
			_ = syscall.Kill(id, syscall.SIGKILL)
		}
	}
	return fmt.Errorf("processes of Pods outlive SIGKILL: %v", podProcesses())
}

func podProcesses() []int {
	seen := map[int]bool{}
	var ids []int
	for _, group := range cgroupDirectories() {
		content, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		for _, field := range strings.Fields(string(content)) {
			if id, err := strconv.Atoi(field); err == nil && id > 0 && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// cgroupDirectories returns our groups, parents first.
func cgroupDirectories() []string {
	var groups []string
	for _, point := range hierarchies() {
		_ = filepath.WalkDir(filepath.Join(point, cgroupName), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
	}
	return groups
}

// removeCgroups removes our groups, children first. The kernel needs a moment after the last process of each has ended.
func removeCgroups() error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		groups := cgroupDirectories()
		if len(groups) == 0 {
			return nil
		}
		for i := len(groups) - 1; i >= 0; i-- {
			_ = os.Remove(groups[i])
		}
	}
	if left := cgroupDirectories(); len(left) > 0 {
		return fmt.Errorf("%d control groups cannot be removed, among them %s", len(left), left[0])
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

var expected = []string{"etcd", "kube-apiserver", "containerd", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns", "provisioner"}

func status(l layout) error {
	for _, name := range expected {
		p, known := findRecorded(l, name)
		switch {
		case !known:
			say("%-24s not started", name)
		case !p.alive():
			say("%-24s ended; its last words are in %s", name, l.logs(name+".log"))
		default:
			say("%-24s runs as process %d", name, p.id)
		}
	}
	if err := checkHealth(l); err != nil {
		return fmt.Errorf("the cluster is not well: %w\nstart it with: make up", err)
	}
	say("\nthe cluster is well: services in %s, Pods in %s, images at %s", serviceRange, podRange, registryName)
	printUsage(l)
	return nil
}

// checkHealth says nil only when everything that `up` waits for holds now.
func checkHealth(l layout) error {
	for _, name := range expected {
		p, known := findRecorded(l, name)
		if !known {
			return fmt.Errorf("%s was not started", name)
		}
		if !p.alive() {
			return fmt.Errorf("%s has ended", name)
		}
	}
	return errors.Join(apiServerReady(l), nodeReady(l), dnsAnswers(), registryAnswers())
}

// steps prints one line for each step, with the time it took.
type steps struct{ begin time.Time }

func newSteps() *steps { return &steps{time.Now()} }

func (s *steps) do(name string, action func() error) error {
	begin := time.Now()
	err := action()
	mark := "done"
	if err != nil {
		mark = "FAILED"
	}
	say("%6.1fs  %-72s %6.1fs  %s", time.Since(s.begin).Seconds(), name, time.Since(begin).Seconds(), mark)
	return err
}

func (s *steps) elapsed() time.Duration { return time.Since(s.begin).Round(100 * time.Millisecond) }

func say(format string, values ...any) { fmt.Fprintf(os.Stderr, format+"\n", values...) }

// lock lets one `up` or `down` work at a time; the kernel lets go of it however the holder ends.
func lock(l layout) (unlock func(), err error) {
	if err := os.MkdirAll(l.cluster(), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(l.cluster(), "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		say("another up or down is at work; waiting for it")
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			return nil, err
		}
	}
	return func() { file.Close() }, nil
}

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process identifies one process for good: the kernel hands a process id out again, but not with the same start time.
type process struct {
	name      string
	id        int
	startedAt string // clock ticks since boot, field 22 of /proc/ID/stat
}

// start runs a program that outlives this one, its output in logs/NAME.log, and records it before returning.
func start(l layout, name string, program string, arguments ...string) error {
	log, err := os.Create(l.logs(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = log, log
	command.Dir = "/"
	// A session of its own, so that an interrupt typed at the terminal reaches `up` alone.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	startedAt, err := startTime(command.Process.Pid)
	if err != nil {
		return fmt.Errorf("%s ended at once; see %s", name, log.Name())
	}
	record := fmt.Sprintf("%d %s\n", command.Process.Pid, startedAt)
	if err := os.WriteFile(l.run(name+".pid"), []byte(record), 0o644); err != nil {
		return err
	}
	// Reaped here, so that a program that ends at once is seen as ended and not as a zombie.
	go func() { _ = command.Wait() }()
	return nil
}

// recorded returns the processes that an `up` started, whether they still run or not.
func recorded(l layout) []process {
	files, _ := filepath.Glob(l.run("*.pid"))
	var all []process
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(content))
		if len(fields) != 2 {
			continue
		}
		id, err := strconv.Atoi(fields[0])
		if err != nil {
			continue
		}
		all = append(all, process{strings.TrimSuffix(filepath.Base(file), ".pid"), id, fields[1]})
	}
	return all
}

func findRecorded(l layout, name string) (process, bool) {
	for _, p := range recorded(l) {
		if p.name == name {
			return p, true
		}
	}
	return process{}, false
}

func (p process) alive() bool {
	startedAt, err := startTime(p.id)
	return err == nil && startedAt == p.startedAt
}

// stop asks the process to end, and after the patience makes it. It returns once the process is gone, because until
// then it holds ports, locks and mounts.
func (p process) stop(l layout, patience time.Duration) error {
	if p.alive() {
		_ = syscall.Kill(p.id, syscall.SIGTERM)
		if !p.awaitEnd(patience) {
			_ = syscall.Kill(p.id, syscall.SIGKILL)
			if !p.awaitEnd(10 * time.Second) {
				return fmt.Errorf("%s (process %d) outlives SIGKILL; look at /proc/%d/stack", p.name, p.id, p.id)
			}
		}
	}
	return os.Remove(l.run(p.name + ".pid"))
}

func (p process) awaitEnd(patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !p.alive() {
			return true
		}
	}
	return !p.alive()
}

var errNoProcess = errors.New("no such process")

func startTime(id int) (string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return "", errNoProcess
	}
	// The second field is the program's name in parentheses and may hold spaces, so count from the last parenthesis.
	_, rest, found := cutLast(string(content), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 || fields[0] == "Z" {
		return "", errNoProcess
	}
	return fields[19], nil
}

func cutLast(text, separator string) (before, after string, found bool) {
	if at := strings.LastIndex(text, separator); at >= 0 {
		return text[:at], text[at+len(separator):], true
	}
	return text, "", false
}

// processesNaming returns the processes whose command line holds all the given texts.
func processesNaming(texts ...string) []process {
	entries, _ := os.ReadDir("/proc")
	var found []process
next:
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil || id == os.Getpid() {
			continue
		}
		content, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil {
			continue
		}
		line := strings.ReplaceAll(string(content), "\x00", " ")
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		if startedAt, err := startTime(id); err == nil {
			found = append(found, process{filepath.Base(strings.Fields(line)[0]), id, startedAt})
		}
	}
	return found
}

// output runs a program to its end and returns what it printed; an error holds what it said.
func output(program string, arguments ...string) (string, error) {
	command := exec.Command(program, arguments...)
	content, err := command.Output()
	if err != nil {
		said := ""
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			said = strings.TrimSpace(string(exit.Stderr))
		}
		return string(content), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(arguments, " "), err, said)
	}
	return string(content), nil
}

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// tool is a Go program that is built once and kept in the cache, keyed by what goes into it, so that a fresh clone of
// the same sources builds nothing.
type tool struct {
	folder  string // under e2e/devcluster, with a go.mod of its own
	target  string // the package to build there
	module  string // whose version in that go.mod is the program's
	flags   func(version string) string
	aliases []string // names in the cache's bin directory
}

var tools = []tool{
	{
		folder: "kubernetes", target: ".", module: "k8s.io/kubernetes",
		// Clients take decisions by this version, and without it some refuse the server.
		flags: func(version string) string {
			const at = "-X k8s.io/component-base/version."
			return at + "gitVersion=" + version + " " + at + "gitMajor=" + kubernetesMajor + " " + at + "gitMinor=" + kubernetesMinor + " " +
				"-X k8s.io/client-go/pkg/version.gitVersion=" + version
		},
		aliases: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"},
	},
	{
		folder: "coredns", target: ".", module: "github.com/coredns/coredns",
		flags:   func(string) string { return "" },
		aliases: []string{"coredns"},
	},
	{
		folder: "helm", target: "helm.sh/helm/v3/cmd/helm", module: "helm.sh/helm/v3",
		// Helm takes the lowest Kubernetes version for its own when it cannot ask a server.
		flags: func(version string) string {
			return "-X helm.sh/helm/v3/internal/version.version=" + version +
				" -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=" + kubernetesMajor +
				" -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=" + kubernetesMinor +
				" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=" + kubernetesMajor +
				" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=" + kubernetesMinor
		},
		aliases: []string{"helm"},
	},
}

// buildTools builds what the cache lacks and lets the cache's bin directory name the right builds.
func buildTools(ctx context.Context, l layout) error {
	if err := os.MkdirAll(l.binaries(), 0o755); err != nil {
		return err
	}
	for _, t := range tools {
		key, err := t.key(l)
		if err != nil {
			return err
		}
		file := filepath.Join(l.cache, "tools", t.folder+"-"+key, t.folder)
		if _, err := os.Stat(file); err != nil {
			if err := t.build(ctx, l, file); err != nil {
				return err
			}
		}
		for _, alias := range t.aliases {
			if err := pointTo(l.binary(alias), file); err != nil {
				return err
			}
		}
	}
	return nil
}

// key digests the sources; go.sum stands for those of every dependency.
func (t tool) key(l layout) (string, error) {
	folder := filepath.Join(l.source, t.folder)
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("there are no sources in %s", folder)
	}
	sort.Strings(files)
	digest := sha256.New()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(digest, "%s %d\n", filepath.Base(file), len(content))
		digest.Write(content)
	}
	fmt.Fprintln(digest, t.flags("version"))
	return hex.EncodeToString(digest.Sum(nil))[:16], nil
}

func (t tool) build(ctx context.Context, l layout, file string) error {
	version, err := t.inFolder(ctx, l, "list", "-m", "-f", "{{.Version}}", t.module).Output()
	if err != nil {
		return fmt.Errorf("read the version of %s (Go 1.24 or later and access to Go modules are needed): %w", t.module, explain(err))
	}
	say("building %s %s: minutes the first time, kept in %s", t.folder, strings.TrimSpace(string(version)), filepath.Dir(file))
	dependencies, err := t.inFolder(ctx, l, "list", "-deps", t.target).Output()
	if err != nil {
		return fmt.Errorf("download the sources of %s: %w", t.folder, explain(err))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	command := t.inFolder(ctx, l, "build", "-v", "-trimpath", "-o", file+".part",
		"-ldflags", "-s -w "+t.flags(strings.TrimSpace(string(version))), t.target)
	lines, err := command.StderrPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	said := reportProgress(lines, t.folder, strings.Count(string(dependencies), "\n"))
	if err := command.Wait(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", t.folder, err, said)
	}
	return os.Rename(file+".part", file)
}

func (t tool) inFolder(ctx context.Context, l layout, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = filepath.Join(l.source, t.folder)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return command
}

// reportProgress counts packages as the compiler names them, says so every few seconds, and returns the last lines,
// which hold the reason when the build fails.
func reportProgress(lines io.Reader, name string, total int) string {
	begin, done, last := time.Now(), 0, []string{}
	read := make(chan string)
	go func() {
		defer close(read)
		for scanner := bufio.NewScanner(lines); scanner.Scan(); {
			read <- scanner.Text()
		}
	}()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case line, open := <-read:
			if !open {
				return strings.Join(last, "\n")
			}
			done++
			last = append(last, line)
			last = last[max(0, len(last)-20):]
		case <-tick.C:
			// Packages that Go's own cache holds are never named, so this is a lower bound.
			say("  %s: %d of at most %d packages compiled, %s", name, done, total, time.Since(begin).Round(time.Second))
		}
	}
}

// pointTo replaces the link in one step, since a running cluster or a colleague may be using it.
func pointTo(link, file string) error {
	if target, err := os.Readlink(link); err == nil && target == file {
		return nil
	}
	_ = os.Remove(link + ".new")
	if err := os.Symlink(file, link+".new"); err != nil {
		return err
	}
	return os.Rename(link+".new", link)
}

func explain(err error) error {
	if exit, is := err.(*exec.ExitError); is {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

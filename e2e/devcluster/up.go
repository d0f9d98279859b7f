package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// up brings the cluster up in named steps. Whatever an earlier attempt left is removed first, so that every start is
// the same start.
func up(ctx context.Context, l layout) error {
	if err := checkMachine(); err != nil {
		return err
	}
	unlock, err := lock(l)
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkHealth(l); err == nil {
		say("the cluster is up and well")
		printUsage(l)
		return nil
	}
	if err := checkOwner(l); err != nil {
		return err
	}
	steps := newSteps()
	if err := steps.do("tools", func() error { return buildTools(ctx, l) }); err != nil {
		return err
	}
	if err := steps.do("leftovers of an earlier cluster", func() error { return tearDown(l) }); err != nil {
		return err
	}
	if err := bringUp(ctx, l, steps); err != nil {
		return fmt.Errorf("%w\nlogs: %s\nclean up with: make down", err, l.logs())
	}
	say("the cluster is up after %s", steps.elapsed())
	printUsage(l)
	return nil
}

func bringUp(ctx context.Context, l layout, steps *steps) error {
	pauseImage, err := images(l, "boot-reference", "pause")
	if err != nil {
		return err
	}
	registryImage, err := images(l, "boot-reference", "registry")
	if err != nil {
		return err
	}
	ordered := []struct {
		name string
		run  func() error
	}{
		{"directories, certificates, network", func() error {
			return inTurn(
				func() error { return makeDirectories(l) },
				func() error { return makeRegistryData(l) },
				func() error { return writeCertificates(l) },
				func() error { return writePodNetwork(l) },
				func() error { return raiseNetwork(l) },
				makeCgroups,
			)
		}},
		{"etcd, API server, containerd, images", func() error {
			return atOnce(
				func() error {
					return inTurn(
						func() error { return startEtcd(l) },
						func() error { return startAPIServer(l) },
						func() error {
							return awaitWhile(ctx, l, "kube-apiserver", 90*time.Second, func() error { return apiServerReady(l) })
						},
					)
				},
				func() error {
					return inTurn(
						func() error { return writeContainerdConfiguration(l, pauseImage) },
						func() error { return startContainerd(l) },
						func() error { return removeContainers(l) },
						func() error {
							return importImage(l, pauseImage, func() (string, error) { return images(l, "boot-archive", "pause") })
						},
						func() error {
							return importImage(l, registryImage, func() (string, error) { return images(l, "boot-archive", "registry") })
						},
					)
				},
			)
		}},
		{"controller manager, scheduler, kubelet, kube-proxy, CoreDNS, volumes", func() error {
			return inTurn(
				func() error { return startKubelet(l, pauseImage) },
				func() error { return startControllerManager(l) },
				func() error { return startScheduler(l) },
				func() error { return startProxy(l) },
				func() error { return applyAddons(l, registryImage) },
				func() error { return startDNS(l) },
				func() error { return start(l, "provisioner", l.binary("devcluster"), "provisioner") },
			)
		}},
		{"node ready", func() error {
			return awaitWhile(ctx, l, "kubelet", 60*time.Second, func() error { return nodeReady(l) })
		}},
		{"DNS answers", func() error { return awaitWhile(ctx, l, "coredns", 60*time.Second, dnsAnswers) }},
		{"image registry answers", func() error { return awaitWhile(ctx, l, "kubelet", 90*time.Second, registryAnswers) }},
	}
	for _, step := range ordered {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := steps.do(step.name, step.run); err != nil {
			return err
		}
	}
	return nil
}

// checkMachine fails early and says what to do, instead of late with a riddle.
func checkMachine() error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: run as root (sudo --preserve-env=HOME make up), or use a cluster of your own with CLUSTER=current")
	}
	var missing []string
	for _, program := range []string{"containerd", "ctr", "runc", "iptables", "ip6tables", "ip", "conntrack", "ethtool", "buildah", "mmdebstrap", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if _, err := os.Stat(filepath.Join(cniPlugins(), "ptp")); err != nil {
		missing = append(missing, "the CNI plugins")
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing: %s; install them with: e2e/prerequisites.sh", strings.Join(missing, ", "))
	}
	return nil
}

func makeDirectories(l layout) error {
	for _, directory := range []string{
		l.run("cni.d"), l.run("volume-plugins"), l.run("opt"), l.logs("pods"), l.keys(), l.volumes(), l.kubelet(), l.containerdRoot(),
	} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(l.keys(), 0o700)
}

// images calls e2e/images.sh, which developers call too.
func images(l layout, arguments ...string) (string, error) {
	command := exec.Command(filepath.Join(l.source, "..", "images.sh"), arguments...)
	command.Stderr = os.Stderr
	content, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("images.sh %s: %w", strings.Join(arguments, " "), err)
	}
	return strings.TrimSpace(string(content)), nil
}

func printUsage(l layout) {
	fmt.Printf("\n  export KUBECONFIG=%s\n  export PATH=%s:$PATH\n  kubectl get pods --all-namespaces\n\n", l.adminKubeconfig(), l.binaries())
}

// await asks until the probe says nil. It gives up as soon as any process of the cluster has ended, and says why:
// what is waited for may need one that nobody thinks of.
func await(l layout, name string, patience time.Duration, probe func() error) error {
	return awaitWhile(context.Background(), l, name, patience, probe)
}

func awaitWhile(ctx context.Context, l layout, name string, patience time.Duration, probe func() error) error {
	end := time.Now().Add(patience)
	for {
		err := probe()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, p := range recorded(l) {
			if !p.alive() {
				return fmt.Errorf("%s ended:\n%s", p.name, lastLines(l.logs(p.name+".log"), 8))
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not ready after %s: %w\n%s", name, patience, err, lastLines(l.logs(name+".log"), 8))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func lastLines(file string, count int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

func inTurn(actions ...func() error) error {
	for _, action := range actions {
		if err := action(); err != nil {
			return err
		}
	}
	return nil
}

func atOnce(actions ...func() error) error {
	failures := make([]error, len(actions))
	var group sync.WaitGroup
	for i, action := range actions {
		group.Add(1)
		go func() {
			defer group.Done()
			failures[i] = action()
		}()
	}
	group.Wait()
	return errors.Join(failures...)
}

func withTimeout(patience time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func dialDNS(ctx context.Context, network, _ string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, dnsAddress+":53")
}

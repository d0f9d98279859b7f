package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

func (l layout) containerdSocket() string { return l.run("containerd", "containerd.sock") }

// The root keeps images between starts, so it lies beside `data`, which is emptied.
func (l layout) containerdRoot() string { return l.cluster("containerd") }

func writeContainerdConfiguration(l layout, pauseImage string) error {
	// restrict_oom_score_adj: machines that withhold CAP_SYS_RESOURCE fail every sandbox otherwise.
	configuration := fmt.Sprintf(`version = 2
root = %[1]q
state = %[2]q
oom_score = 0

[grpc]
  address = %[3]q

[plugins."io.containerd.internal.v1.opt"]
  path = %[4]q

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[5]q
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_tcp_service = true
  disable_apparmor = true
  max_concurrent_downloads = 6

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[6]q
    conf_dir = %[7]q

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %[8]q

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = %[9]q
`, l.containerdRoot(), l.run("containerd"), l.containerdSocket(), l.run("opt"), pauseImage,
		cniPlugins(), l.run("cni.d"), l.run("certs.d"), l.run("runc"))
	if err := os.WriteFile(l.run("containerd.toml"), []byte(configuration), 0o644); err != nil {
		return err
	}
	hosts := filepath.Join(l.run("certs.d"), registryName)
	if err := os.MkdirAll(hosts, 0o755); err != nil {
		return err
	}
	// The node's resolver does not know cluster names, so containerd goes to the Service's fixed address.
	return os.WriteFile(filepath.Join(hosts, "hosts.toml"), []byte(fmt.Sprintf(`server = "http://%[1]s:5000"

[host."http://%[1]s:5000"]
  capabilities = ["pull", "resolve"]
`, registryAddress)), 0o644)
}

func cniPlugins() string {
	for _, folder := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(folder, "ptp")); err == nil {
			return folder
		}
	}
	return "/usr/lib/cni"
}

func startContainerd(l layout) error {
	if err := start(l, "containerd", "containerd", "--config", l.run("containerd.toml")); err != nil {
		return err
	}
	return await(l, "containerd", 30*time.Second, func() error {
		_, err := ctr(l, "version")
		return err
	})
}

func ctr(l layout, arguments ...string) (string, error) {
	return output("ctr", append([]string{"--address", l.containerdSocket(), "--namespace", "k8s.io"}, arguments...)...)
}

// removeContainers forgets every container that an earlier cluster left in containerd's records. Otherwise the new
// kubelet takes them for Pods that it lost and takes them down one by one.
func removeContainers(l layout) error {
	listed, err := ctr(l, "containers", "list", "--quiet")
	if err != nil {
		return err
	}
	containers := strings.Fields(listed)
	if len(containers) == 0 {
		return nil
	}
	if tasks, err := ctr(l, "tasks", "list", "--quiet"); err == nil {
		for _, task := range strings.Fields(tasks) {
			_, _ = ctr(l, "tasks", "delete", "--force", task)
		}
	}
	_, err = ctr(l, append([]string{"containers", "delete"}, containers...)...)
	return err
}

// importImage loads a docker-archive, unless containerd kept that image from an earlier start.
func importImage(l layout, reference string, archive func() (string, error)) error {
	listed, err := ctr(l, "images", "list", "--quiet")
	if err != nil {
		return err
	}
	for _, known := range strings.Fields(listed) {
		if known == reference {
			return nil
		}
	}
	file, err := archive()
	if err != nil {
		return err
	}
	_, err = ctr(l, "images", "import", file)
	return err
}

// endShims ends the shims of our containerd, which outlive it by design, and removes their sockets, whose place
// containerd fixes outside its state directory.
func endShims(l layout) error {
	addresses, _ := filepath.Glob(l.run("containerd", "io.containerd.runtime.v2.task", "k8s.io", "*", "address"))
	for _, shim := range shims(l) {
		_ = syscall.Kill(shim.id, syscall.SIGKILL)
		if !shim.awaitEnd(5 * time.Second) {
			return fmt.Errorf("containerd-shim (process %d) outlives SIGKILL", shim.id)
		}
	}
	for _, file := range addresses {
		if content, err := os.ReadFile(file); err == nil {
			_ = os.Remove(strings.TrimPrefix(strings.TrimSpace(string(content)), "unix://"))
		}
	}
	return nil
}

func shims(l layout) []process {
	return processesNaming("containerd-shim-runc-v2", l.containerdSocket())
}

// mountsUnder returns the mount points in a directory, the deepest and latest first, so that each can be unmounted.
func mountsUnder(directory string) []string {
	content, _ := os.ReadFile("/proc/self/mounts")
	var points []string
	for _, line := range strings.Split(string(content), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[1])
		if strings.HasPrefix(point, directory+"/") {
			points = append(points, point)
		}
	}
	sort.SliceStable(points, func(i, j int) bool { return len(points[i]) > len(points[j]) })
	return points
}

func unmountUnder(directory string) error {
	// A second pass, because mounts can be stacked on one point.
	for range 3 {
		for _, point := range mountsUnder(directory) {
			if err := syscall.Unmount(point, 0); err != nil {
				_ = syscall.Unmount(point, syscall.MNT_DETACH)
			}
		}
	}
	if left := mountsUnder(directory); len(left) > 0 {
		return fmt.Errorf("%d mounts cannot be removed, among them %s", len(left), left[0])
	}
	return nil
}

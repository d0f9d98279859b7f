package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// changedSettings are the kernel settings that we, the kubelet and kube-proxy change; `down` puts the old values back.
var changedSettings = []string{
	"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/bridge/bridge-nf-call-iptables",
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	"net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_tcp_timeout_established",
	"net/netfilter/nf_conntrack_tcp_timeout_close_wait",
}

// raiseNetwork makes the node's address, the routes to services, and NAT for what Pods send elsewhere.
func raiseNetwork(l layout) error {
	if err := rememberSettings(l); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("allow forwarding between Pods: %w", err)
	}
	commands := [][]string{
		// A bridge without ports: `dummy` links are missing in small kernels, bridges hardly ever.
		{"ip", "link", "add", nodeLink, "type", "bridge"},
		{"ip", "link", "set", nodeLink, "alias", l.cache},
		{"ip", "address", "add", nodeAddress + "/32", "dev", nodeLink},
		{"ip", "link", "set", nodeLink, "up"},
		// Without a route the kernel refuses before kube-proxy's rules are asked, where the machine has no default route;
		// where it has one, this keeps the source address ours.
		{"ip", "route", "add", serviceRange, "dev", nodeLink, "src", nodeAddress},
		// One rule for all Pods; the CNI plugin's own masquerading costs an iptables run for each.
		{"iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-s", podRange, "!", "-d", podRange,
			"-m", "comment", "--comment", "stagecraft-devcluster", "-j", "MASQUERADE"},
		// Machines with another container engine drop forwarded packets by default.
		{"iptables", "-w", "-I", "FORWARD", "-s", podRange, "-m", "comment", "--comment", "stagecraft-devcluster", "-j", "ACCEPT"},
		{"iptables", "-w", "-I", "FORWARD", "-d", podRange, "-m", "comment", "--comment", "stagecraft-devcluster", "-j", "ACCEPT"},
	}
	for _, command := range commands {
		if _, err := output(command[0], command[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// writePodNetwork configures point-to-point links: each Pod's packets pass the node's routing, so that Services work
// from Pod to Pod where the kernel has no br_netfilter.
func writePodNetwork(l layout) error {
	configuration := map[string]any{
		"cniVersion": "0.4.0", "name": podNetwork,
		"plugins": []any{map[string]any{
			"type": "ptp", "mtu": outwardMTU(),
			"ipam": map[string]any{
				"type": "host-local", "dataDir": l.run("cni"),
				"ranges": []any{[]any{map[string]any{"subnet": podRange}}},
				"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
			},
		}},
	}
	content, err := json.MarshalIndent(configuration, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(l.run("cni.d", "10-stagecraft.conflist"), content, 0o644)
}

// outwardMTU is the packet size of the link to the outside; larger packets from Pods would be lost on tunnels.
func outwardMTU() int {
	routes, err := output("ip", "-json", "route", "get", "192.0.2.200")
	var parsed []struct{ Dev string }
	if err != nil || json.Unmarshal([]byte(routes), &parsed) != nil || len(parsed) == 0 {
		return 1500
	}
	content, err := os.ReadFile(filepath.Join("/sys/class/net", parsed[0].Dev, "mtu"))
	var mtu int
	if _, scanErr := fmt.Sscan(string(content), &mtu); err != nil || scanErr != nil {
		return 1500
	}
	return min(mtu, 1500)
}

func rememberSettings(l layout) error {
	if _, err := os.Stat(l.run("settings.json")); err == nil {
		return nil // from an earlier start that was never taken down: those are the machine's own values
	}
	values := map[string]string{}
	for _, setting := range changedSettings {
		if content, err := os.ReadFile(filepath.Join("/proc/sys", setting)); err == nil {
			values[setting] = strings.TrimSpace(string(content))
		}
	}
	content, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(l.run("settings.json"), content, 0o644)
}

// checkOwner refuses to touch what a running cluster of another cache directory uses: links, rules and control groups
// have the same names in each, so only one can be up.
func checkOwner(l layout) error {
	content, err := os.ReadFile(filepath.Join("/sys/class/net", nodeLink, "ifalias"))
	owner := strings.TrimSpace(string(content))
	if err != nil || owner == "" || owner == l.cache {
		return nil
	}
	for _, p := range recorded(layout{cache: owner}) {
		if p.alive() {
			return fmt.Errorf("a cluster with the cache directory %s runs on this machine; take it down first with: STAGECRAFT_CACHE=%s make down", owner, owner)
		}
	}
	return nil
}

// lowerNetwork removes all that raiseNetwork, kube-proxy, the kubelet and the CNI plugins made.
func lowerNetwork(l layout) error {
	for _, link := range podLinks() {
		_, _ = output("ip", "link", "delete", link)
	}
	if linkExists(nodeLink) {
		if _, err := output("ip", "link", "delete", nodeLink); err != nil {
			return err
		}
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		if err := removeRules(family); err != nil {
			return err
		}
	}
	for _, set := range ourSets() {
		if _, err := output("ipset", "destroy", set); err != nil {
			return err
		}
	}
	return restoreSettings(l)
}

// podLinks returns links whose routes lie in the Pods' range: those of Pods whose network namespace still lives.
func podLinks() []string {
	routes, err := output("ip", "-json", "route", "show", "root", podRange)
	var parsed []struct{ Dev string }
	if err != nil || json.Unmarshal([]byte(routes), &parsed) != nil {
		return nil
	}
	var links []string
	for _, route := range parsed {
		links = append(links, route.Dev)
	}
	return links
}

func linkExists(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name))
	return err == nil
}

// ours tells the rules and chains of a cluster on this machine from everything else in `iptables-save`.
func ours(line string) bool {
	return strings.Contains(line, "KUBE-") || strings.Contains(line, "stagecraft-devcluster")
}

func countRules(family string) int {
	saved, _ := output(family + "-save")
	count := 0
	for _, line := range strings.Split(saved, "\n") {
		if ours(line) {
			count++
		}
	}
	return count
}

// removeRules writes the tables back without our lines, in one transaction for each table and with all other rules and
// their counters as they were.
func removeRules(family string) error {
	saved, err := output(family+"-save", "-c")
	if err != nil {
		return nil // a machine without IPv6 has no such tables
	}
	var kept bytes.Buffer
	removed := 0
	for _, line := range strings.SplitAfter(saved, "\n") {
		if ours(line) {
			removed++
			continue
		}
		kept.WriteString(line)
	}
	if removed == 0 {
		return nil
	}
	command := exec.Command(family+"-restore", "-w", "5", "-c")
	command.Stdin = &kept
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s-restore: %w: %s", family, err, said)
	}
	return nil
}

func ourSets() []string {
	listed, err := output("ipset", "list", "-name")
	if err != nil {
		return nil
	}
	var sets []string
	for _, name := range strings.Fields(listed) {
		if strings.HasPrefix(name, "KUBE-") {
			sets = append(sets, name)
		}
	}
	return sets
}

func restoreSettings(l layout) error {
	content, err := os.ReadFile(l.run("settings.json"))
	if err != nil {
		return nil
	}
	values := map[string]string{}
	if err := json.Unmarshal(content, &values); err != nil {
		return err
	}
	for setting, value := range values {
		path := filepath.Join("/proc/sys", setting)
		if now, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(now)) != value {
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
				return fmt.Errorf("put the kernel setting %s back to %s: %w", setting, value, err)
			}
		}
	}
	return os.Remove(l.run("settings.json"))
}

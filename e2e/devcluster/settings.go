package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// Addresses and names. They are constants so that certificates, tests and documentation can rely on them.
const (
	nodeName    = "devcluster"
	nodeAddress = "172.31.255.1" // on a link of our own: a kubelet refuses loopback addresses
	nodeLink    = "stagecraft0"

	serviceRange      = "10.96.0.0/16"
	kubernetesAddress = "10.96.0.1"
	dnsAddress        = "10.96.0.10"
	registryAddress   = "10.96.0.50"
	registryName      = "registry.registry.svc.cluster.local:5000"

	podRange   = "10.244.0.0/16"
	podNetwork = "stagecraft" // name in the CNI configuration and so in what the plugins leave behind
	maxPods    = 250

	apiPort         = 6443
	etcdPort        = 23790 // not etcd's own, which a developer's other etcd may use
	etcdPeerPort    = 23800
	cgroupName      = "stagecraft"
	registryUser    = 10001 // as in e2e/images/registry/Dockerfile
	kubernetesMajor = "1"
	kubernetesMinor = "34"
)

// layout says where everything lies. All of it is under the cache directory except what is read from the checkout.
type layout struct {
	source string // e2e/devcluster in the checkout
	cache  string
}

func findLayout() (layout, error) {
	source := os.Getenv("DEVCLUSTER_SOURCE")
	if source == "" {
		return layout{}, fmt.Errorf("DEVCLUSTER_SOURCE is not set; call e2e/devcluster.sh, which sets it")
	}
	cache := os.Getenv("STAGECRAFT_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return layout{}, fmt.Errorf("no cache directory: set STAGECRAFT_CACHE or HOME: %w", err)
		}
		cache = filepath.Join(base, "stagecraft")
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return layout{}, err
	}
	// Unix socket paths end at 108 bytes, and the kubelet's longest has 60 after the cache directory.
	if len(cache) > 45 {
		return layout{}, fmt.Errorf("the cache directory %s is too long for Unix sockets: set STAGECRAFT_CACHE to a path of at most 45 bytes", cache)
	}
	return layout{source: source, cache: cache}, nil
}

func (l layout) binaries() string                { return filepath.Join(l.cache, "bin") }
func (l layout) binary(name string) string       { return filepath.Join(l.cache, "bin", name) }
func (l layout) cluster(parts ...string) string  { return l.under("cluster", parts) }
func (l layout) run(parts ...string) string      { return l.under("cluster/run", parts) }
func (l layout) logs(parts ...string) string     { return l.under("cluster/logs", parts) }
func (l layout) keys(parts ...string) string     { return l.under("cluster/pki", parts) }
func (l layout) data(parts ...string) string     { return l.under("cluster/data", parts) }
func (l layout) kubelet(parts ...string) string  { return l.under("cluster/kubelet", parts) }
func (l layout) volumes(parts ...string) string  { return l.under("cluster/data/volumes", parts) }
func (l layout) adminKubeconfig() string         { return l.cluster("kubeconfig") }
func (l layout) kubeconfig(client string) string { return l.keys(client + ".kubeconfig") }

func (l layout) under(folder string, parts []string) string {
	return filepath.Join(append([]string{l.cache, folder}, parts...)...)
}

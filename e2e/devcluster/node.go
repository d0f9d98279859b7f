package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func startKubelet(l layout, pauseImage string) error {
	// Settings that differ from the kubelet's own: everything it would put elsewhere comes under the cluster's directory;
	// a node of two cores shall take as many Pods as fit; and it shall not evict because the developer's disk is full.
	configuration := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[2]q}
authorization: {mode: Webhook}
tlsCertFile: %[3]q
tlsPrivateKeyFile: %[4]q
clusterDNS: [%[5]s]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://%[6]s
imageServiceEndpoint: unix://%[6]s
cgroupDriver: cgroupfs
cgroupRoot: /%[7]s
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxPods: %[8]d
podPidsLimit: 4096
podLogsDir: %[9]q
volumePluginDir: %[10]q
serializeImagePulls: false
maxParallelImagePulls: 6
registryPullQPS: 0
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%}
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
`, nodeAddress, l.keys("authority.crt"), l.keys("kubelet-serving.crt"), l.keys("kubelet-serving.key"), dnsAddress,
		l.containerdSocket(), cgroupName, maxPods, l.logs("pods"), l.run("volume-plugins"))
	if err := os.WriteFile(l.run("kubelet.yaml"), []byte(configuration), 0o644); err != nil {
		return err
	}
	return start(l, "kubelet", l.binary("kubelet"),
		"--config", l.run("kubelet.yaml"),
		"--kubeconfig", l.kubeconfig("kubelet"),
		"--hostname-override", nodeName, "--node-ip", nodeAddress,
		"--root-dir", l.kubelet(), "--cert-dir", l.kubelet("pki"),
		"--pod-infra-container-image", pauseImage)
}

func startProxy(l layout) error {
	// Zeros leave the machine's connection tracking as it is.
	configuration := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %q}
hostnameOverride: %s
mode: iptables
clusterCIDR: %s
bindAddress: %s
healthzBindAddress: %s:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
iptables: {localhostNodePorts: false, minSyncPeriod: 100ms}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, l.kubeconfig("kube-proxy"), nodeName, podRange, nodeAddress, nodeAddress)
	if err := os.WriteFile(l.run("kube-proxy.yaml"), []byte(configuration), 0o644); err != nil {
		return err
	}
	return start(l, "kube-proxy", l.binary("kube-proxy"), "--config", l.run("kube-proxy.yaml"))
}

// startDNS runs CoreDNS beside the kubelet, on the node's address: DNS is then there before the first Pod.
func startDNS(l layout) error {
	// Each option on a line of its own: CoreDNS takes a block on one line for something else, without a word.
	corefile := fmt.Sprintf(`.:53 {
    bind %s
    errors
    health %s:8080
    ready %s:8181
    cache 5
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %s
        pods insecure
        ttl 5
    }
    forward . /etc/resolv.conf
}
`, nodeAddress, nodeAddress, nodeAddress, l.kubeconfig("coredns"))
	if err := os.WriteFile(l.run("Corefile"), []byte(corefile), 0o644); err != nil {
		return err
	}
	return start(l, "coredns", l.binary("coredns"), "-conf", l.run("Corefile"))
}

// nodeReady says nil once the kubelet has reported the node as ready to take Pods.
func nodeReady(l layout) error {
	client, err := apiClient(l, "admin")
	if err != nil {
		return err
	}
	content, err := client.get("/api/v1/nodes/" + nodeName)
	if err != nil {
		return err
	}
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
		Spec struct{ Taints []struct{ Key string } }
	}
	if err := json.Unmarshal(content, &node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" && condition.Status == "True" {
			if len(node.Spec.Taints) > 0 {
				return fmt.Errorf("the node is ready, but still tainted with %s", node.Spec.Taints[0].Key)
			}
			return nil
		}
		if condition.Type == "Ready" {
			return fmt.Errorf("the node is not ready: %s", condition.Message)
		}
	}
	return fmt.Errorf("the kubelet has not registered the node")
}

// dnsAnswers asks through the Service's address, as Pods do, and so proves kube-proxy's rules too.
func dnsAnswers() error {
	resolver := net.Resolver{PreferGo: true, Dial: dialDNS}
	ctx, cancel := withTimeout(time.Second)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
	if err != nil {
		return err
	}
	if len(addresses) != 1 || addresses[0] != kubernetesAddress {
		return fmt.Errorf("DNS gives %s for the API server instead of %s", strings.Join(addresses, ", "), kubernetesAddress)
	}
	return nil
}

// removeNodeLeftovers removes what the kubelet, containerd's shims and the CNI library put at places that no setting
// changes. Directories go only when they are empty: something else may use them too.
func removeNodeLeftovers(l layout) error {
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, l.logs("pods")) {
			_ = os.Remove(link)
		}
	}
	plugins, _ := filepath.Glob("/var/lib/kubelet/device-plugins/*")
	for _, file := range append(podNetworkResults(l), plugins...) {
		_ = os.Remove(file)
	}
	for _, directory := range []string{
		"/var/log/containers", "/var/log/pods", "/var/lib/cni/results", "/var/lib/cni/cache", "/var/lib/cni",
		"/var/lib/kubelet/device-plugins", "/var/lib/kubelet/plugins_registry", "/var/lib/kubelet",
		"/run/containerd/s", "/run/containerd/runc/k8s.io", "/run/containerd/runc", "/run/containerd",
	} {
		_ = os.Remove(directory)
	}
	return nil
}

// podNetworkResults are the notes of the CNI library on Pods whose network namespaces lie in our directory.
func podNetworkResults(l layout) []string {
	files, _ := filepath.Glob("/var/lib/cni/results/*")
	var ours []string
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil && strings.Contains(string(content), l.run()+"/") {
			ours = append(ours, file)
		}
	}
	return ours
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func startEtcd(l layout) error {
	client := fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", etcdPeerPort)
	return start(l, "etcd", l.binary("etcd"),
		"--name", nodeName, "--data-dir", l.data("etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", nodeName+"="+peer,
		// The data does not outlive the cluster, so there is nothing for the disk to keep safe.
		"--unsafe-no-fsync",
		"--quota-backend-bytes", strconv.Itoa(4<<30),
		"--log-level", "warn")
}

func startAPIServer(l layout) error {
	return start(l, "kube-apiserver", l.binary("kube-apiserver"),
		"--advertise-address", nodeAddress, "--bind-address", nodeAddress, "--secure-port", strconv.Itoa(apiPort),
		"--etcd-servers", fmt.Sprintf("http://127.0.0.1:%d", etcdPort),
		"--service-cluster-ip-range", serviceRange,
		"--authorization-mode", "Node,RBAC",
		"--enable-admission-plugins", "NodeRestriction",
		"--allow-privileged",
		"--client-ca-file", l.keys("authority.crt"),
		"--tls-cert-file", l.keys("kube-apiserver.crt"), "--tls-private-key-file", l.keys("kube-apiserver.key"),
		"--kubelet-certificate-authority", l.keys("authority.crt"),
		"--kubelet-client-certificate", l.keys("kubelet-client.crt"),
		"--kubelet-client-key", l.keys("kubelet-client.key"),
		// By default `kubectl logs` goes to the node's name, which no resolver of this machine knows.
		"--kubelet-preferred-address-types", "InternalIP",
		"--requestheader-client-ca-file", l.keys("authority.crt"),
		"--requestheader-allowed-names", "front-proxy-client",
		"--requestheader-username-headers", "X-Remote-User",
		"--requestheader-group-headers", "X-Remote-Group",
		"--requestheader-extra-headers-prefix", "X-Remote-Extra-",
		"--proxy-client-cert-file", l.keys("front-proxy-client.crt"),
		"--proxy-client-key-file", l.keys("front-proxy-client.key"),
		"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file", l.keys("service-account.pub"),
		"--service-account-signing-key-file", l.keys("service-account.key"),
		"--cert-dir", l.run("apiserver"))
}

func startControllerManager(l layout) error {
	return start(l, "kube-controller-manager", l.binary("kube-controller-manager"),
		"--kubeconfig", l.kubeconfig("kube-controller-manager"),
		"--authentication-kubeconfig", l.kubeconfig("kube-controller-manager"),
		"--authorization-kubeconfig", l.kubeconfig("kube-controller-manager"),
		"--bind-address", "127.0.0.1", "--cert-dir", l.run("controller-manager"),
		// There is one of each, and electing it takes seconds.
		"--leader-elect=false",
		// How often it looks again at nodes and at claims that found no volume: by default 5 s and 15 s of each start.
		"--node-monitor-period", "1s", "--pvclaimbinder-sync-period", "1s",
		"--use-service-account-credentials",
		"--service-account-private-key-file", l.keys("service-account.key"),
		"--root-ca-file", l.keys("authority.crt"),
		"--cluster-signing-cert-file", l.keys("authority.crt"),
		"--cluster-signing-key-file", l.keys("authority.key"),
		"--flex-volume-plugin-dir", l.run("volume-plugins"))
}

func startScheduler(l layout) error {
	return start(l, "kube-scheduler", l.binary("kube-scheduler"),
		"--kubeconfig", l.kubeconfig("kube-scheduler"),
		"--authentication-kubeconfig", l.kubeconfig("kube-scheduler"),
		"--authorization-kubeconfig", l.kubeconfig("kube-scheduler"),
		"--bind-address", "127.0.0.1", "--cert-dir", l.run("scheduler"),
		"--leader-elect=false")
}

// apiServerReady asks once, with the administrator's certificate.
func apiServerReady(l layout) error {
	client, err := apiClient(l, "admin")
	if err != nil {
		return err
	}
	_, err = client.get("/readyz")
	return err
}

// api is the smallest client that serves us: the standard library knows TLS and JSON, and that is all it takes.
type api struct {
	http *http.Client
}

func apiClient(l layout, name string) (api, error) {
	pair, err := tls.LoadX509KeyPair(l.keys(name+".crt"), l.keys(name+".key"))
	if err != nil {
		return api{}, err
	}
	root, err := os.ReadFile(l.keys("authority.crt"))
	if err != nil {
		return api{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	transport := &http.Transport{
		Proxy:           nil, // a proxy of the environment cannot reach an address of this machine
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	return api{&http.Client{Transport: transport}}, nil
}

func (a api) open(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("https://%s:%d%s", nodeAddress, apiPort, path), body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := a.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		defer response.Body.Close()
		said, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
		return nil, apiError{response.StatusCode, fmt.Sprintf("%s %s: %s: %s", method, path, response.Status, strings.TrimSpace(string(said)))}
	}
	return response, nil
}

type apiError struct {
	status int
	said   string
}

func (e apiError) Error() string { return e.said }

func (a api) call(method, path, contentType string, body io.Reader) ([]byte, error) {
	// A stopped or overloaded server takes connections and never answers.
	ctx, cancel := withTimeout(10 * time.Second)
	defer cancel()
	response, err := a.open(ctx, method, path, contentType, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

func (a api) get(path string) ([]byte, error) { return a.call("GET", path, "", nil) }

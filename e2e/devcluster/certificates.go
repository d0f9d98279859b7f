package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// Everything is made anew at each start: it takes milliseconds, and nothing expires in a cluster that is left up.
const validity = 365 * 24 * time.Hour

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	encoded     []byte
}

// writeCertificates makes the authority, the serving and client certificates, the service-account key and the
// kubeconfig files.
func writeCertificates(l layout) error {
	root, err := newAuthority(l)
	if err != nil {
		return err
	}
	servers := []string{"kube-apiserver", "kubelet-serving"}
	for _, server := range servers {
		if _, _, err := root.issue(l, server, pkix.Name{CommonName: server}); err != nil {
			return err
		}
	}
	clients := map[string]pkix.Name{
		"admin":                   {CommonName: "stagecraft-developer", Organization: []string{"system:masters"}},
		"kubelet-client":          {CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
		"front-proxy-client":      {CommonName: "front-proxy-client"},
		"kube-controller-manager": {CommonName: "system:kube-controller-manager"},
		"kube-scheduler":          {CommonName: "system:kube-scheduler"},
		"kube-proxy":              {CommonName: "system:kube-proxy"},
		"kubelet":                 {CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}},
		"coredns":                 {CommonName: "system:coredns"},
		"provisioner":             {CommonName: "stagecraft:volume-provisioner"},
	}
	for client, subject := range clients {
		certificate, key, err := root.issue(l, client, subject)
		if err != nil {
			return err
		}
		path := l.kubeconfig(client)
		if client == "admin" {
			path = l.adminKubeconfig()
		}
		if err := os.WriteFile(path, kubeconfig(client, root.encoded, certificate, key), 0o600); err != nil {
			return err
		}
	}
	// Service-account tokens are signed with RSA because that is what real clusters have and what clients expect.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	return writeKey(l, "service-account", key)
}

func newAuthority(l layout) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stagecraft-devcluster"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return authority{}, err
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		return authority{}, err
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	if err := os.WriteFile(l.keys("authority.crt"), encoded, 0o644); err != nil {
		return authority{}, err
	}
	return authority{certificate, key, encoded}, writeKey(l, "authority", key)
}

// issue writes NAME.crt and NAME.key. Each certificate serves and identifies alike and holds every name of the node:
// one shape for all is easier to trust than ten special ones, and nothing here outlives the machine.
func (a authority) issue(l layout, name string, subject pkix.Name) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{nodeName, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.ParseIP(nodeAddress), net.ParseIP(kubernetesAddress), net.ParseIP("127.0.0.1")},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	if err := os.WriteFile(l.keys(name+".crt"), certificate, 0o644); err != nil {
		return nil, nil, err
	}
	if err := writeKey(l, name, private); err != nil {
		return nil, nil, err
	}
	key, err = os.ReadFile(l.keys(name + ".key"))
	return certificate, key, err
}

func writeKey(l layout, name string, key crypto.Signer) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := os.WriteFile(l.keys(name+".key"), encoded, 0o600); err != nil {
		return err
	}
	encoded = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return os.WriteFile(l.keys(name+".pub"), encoded, 0o644)
}

func kubeconfig(client string, root, certificate, key []byte) []byte {
	encode := base64.StdEncoding.EncodeToString
	return []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: stagecraft-devcluster
clusters:
- name: stagecraft-devcluster
  cluster:
    server: https://%s:%d
    certificate-authority-data: %s
users:
- name: %s
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: stagecraft-devcluster
  context:
    cluster: stagecraft-devcluster
    user: %s
`, nodeAddress, apiPort, encode(root), client, encode(certificate), encode(key), client))
}
